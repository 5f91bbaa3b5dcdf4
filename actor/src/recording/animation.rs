//! A GIF that grows picture by picture, each of which holds only what has changed since the last.

use std::collections::HashMap;

use super::RecordingError;
use crate::environments::Frame;

/// How long the last picture stays before the animation begins again, in hundredths of a second.
const END_DELAY: u16 = 100;
/// Speed over quality, from 1 to 30, where there are more colours than a palette holds.
const QUANTISER_SPEED: i32 = 10;

/// An animation in work, shown again and again.
pub(super) struct Animation {
    encoder: gif::Encoder<Vec<u8>>,
    /// In hundredths of a second.
    delay: u16,
    shown: Option<Frame>,
}

/// A part of a picture, from the upper left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Area {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl Animation {
    /// One of pictures as large as `first`.
    ///
    /// # Errors
    /// Where a GIF cannot be so large.
    pub(super) fn new(first: &Frame, frames_per_second: u32) -> Result<Self, RecordingError> {
        let side = |pixels: u32| u16::try_from(pixels).ok().filter(|pixels| *pixels > 0);
        let (Some(width), Some(height)) = (side(first.width), side(first.height)) else {
            return Err(RecordingError::Size);
        };
        let mut encoder = gif::Encoder::new(Vec::new(), width, height, &[])?;
        encoder.set_repeat(gif::Repeat::Infinite)?;
        Ok(Self {
            encoder,
            // Viewers take less than two for ten.
            delay: (100 / frames_per_second.max(1)).clamp(2, 1000) as u16,
            shown: None,
        })
    }

    /// Appends a picture.
    ///
    /// # Errors
    /// Where it differs in size from those before it.
    pub(super) fn push(&mut self, frame: Frame) -> Result<(), RecordingError> {
        self.append(frame, self.delay)
    }

    /// Appends the last picture, which stays for a moment, and gives the file.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub(super) fn finish(mut self, last: Frame) -> Result<Vec<u8>, RecordingError> {
        self.append(last, END_DELAY)?;
        Ok(self.encoder.into_inner()?)
    }

    fn append(&mut self, frame: Frame, delay: u16) -> Result<(), RecordingError> {
        let area = match &self.shown {
            None => Area {
                left: 0,
                top: 0,
                width: frame.width as usize,
                height: frame.height as usize,
            },
            Some(shown) if (shown.width, shown.height) == (frame.width, frame.height) => {
                changed(shown, &frame)
            }
            Some(_) => return Err(RecordingError::Size),
        };
        let mut part = encoded(&cut(&frame, area), area);
        part.left = area.left as u16;
        part.top = area.top as u16;
        part.delay = delay;
        self.encoder.write_frame(&part)?;
        self.shown = Some(frame);
        Ok(())
    }
}

/// The smallest area outside which the pictures are alike; a single pixel where they are equal.
fn changed(before: &Frame, after: &Frame) -> Area {
    let row_bytes = before.width as usize * 3;
    let rows = || {
        before
            .rgb
            .chunks(row_bytes)
            .zip(after.rgb.chunks(row_bytes))
    };
    let differs = |(before, after): (&[u8], &[u8])| before != after;
    let Some(top) = rows().position(differs) else {
        return Area {
            left: 0,
            top: 0,
            width: 1,
            height: 1,
        };
    };
    let bottom = rows().rposition(differs).unwrap_or(top);
    let (mut left, mut right) = (before.width as usize, 0);
    for (before, after) in rows().take(bottom + 1).skip(top) {
        let mut pixels = before.chunks(3).zip(after.chunks(3));
        if let Some(first) = pixels.position(differs) {
            let last = before.chunks(3).zip(after.chunks(3)).rposition(differs);
            left = left.min(first);
            right = right.max(last.unwrap_or(first));
        }
    }
    Area {
        left,
        top,
        width: right + 1 - left,
        height: bottom + 1 - top,
    }
}

fn cut(frame: &Frame, area: Area) -> Vec<u8> {
    let rows = frame.rgb.chunks(frame.width as usize * 3);
    let rows = rows.skip(area.top).take(area.height);
    rows.flat_map(|row| &row[area.left * 3..][..area.width * 3])
        .copied()
        .collect()
}

/// The pixels with a palette of their own: exactly, where it has room for their colours.
fn encoded(rgb: &[u8], area: Area) -> gif::Frame<'static> {
    let (width, height) = (area.width as u16, area.height as u16);
    let mut palette: Vec<u8> = Vec::new();
    let mut known: HashMap<[u8; 3], u8> = HashMap::new();
    let mut pixels = Vec::with_capacity(area.width * area.height);
    // Neighbours are mostly alike.
    let mut last: Option<([u8; 3], u8)> = None;
    for pixel in rgb.chunks_exact(3) {
        let colour = [pixel[0], pixel[1], pixel[2]];
        let index = match last {
            Some((of, index)) if of == colour => index,
            _ => {
                if let Some(index) = known.get(&colour) {
                    *index
                } else {
                    let Ok(index) = u8::try_from(known.len()) else {
                        return gif::Frame::from_rgb_speed(width, height, rgb, QUANTISER_SPEED);
                    };
                    palette.extend_from_slice(&colour);
                    known.insert(colour, index);
                    index
                }
            }
        };
        last = Some((colour, index));
        pixels.push(index);
    }
    gif::Frame::from_palette_pixels(width, height, pixels, palette, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of one byte a pixel.
    fn grey(width: u32, values: &[u8]) -> Frame {
        Frame {
            width,
            height: values.len() as u32 / width,
            rgb: values.iter().flat_map(|value| [*value; 3]).collect(),
        }
    }

    #[test]
    fn only_what_has_changed_is_kept() {
        let before = grey(4, &[0; 12]);
        let after = grey(4, &[0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 9, 0]);
        let area = changed(&before, &after);
        let expected = Area {
            left: 1,
            top: 1,
            width: 2,
            height: 2,
        };
        assert_eq!(area, expected);
        assert_eq!(cut(&after, area), grey(2, &[7, 0, 0, 9]).rgb);
        assert_eq!(changed(&after, &after).width, 1);
    }

    #[test]
    fn up_to_256_colours_are_exact_and_more_are_still_written() {
        let colours = |count: u32| Frame {
            width: count,
            height: 1,
            rgb: (0..count)
                .flat_map(|index| [index as u8, (index >> 8) as u8, 200])
                .collect(),
        };
        for (count, is_exact) in [(256, true), (257, false)] {
            let frame = colours(count);
            let animation = Animation::new(&frame, 30).unwrap();
            let bytes = animation.finish(frame.clone()).unwrap();
            let mut options = gif::DecodeOptions::new();
            options.set_color_output(gif::ColorOutput::RGBA);
            let mut decoder = options.read_info(bytes.as_slice()).unwrap();
            let read = decoder.read_next_frame().unwrap().unwrap();
            let rgb = read.buffer.chunks(4).flat_map(|pixel| &pixel[..3]);
            assert_eq!(rgb.eq(&frame.rgb), is_exact, "{count} colours");
            assert_eq!(read.delay, END_DELAY);
        }
    }
}
