//! Pictures beside each other.

use super::RecordingError;
use crate::environments::Frame;

/// The pictures as one PNG, from left to right.
///
/// # Errors
/// Where there is none, or they differ in size.
pub(super) fn png(frames: &[Frame]) -> Result<Vec<u8>, RecordingError> {
    let first = frames.first().ok_or(RecordingError::Size)?;
    let (width, height) = (first.width, first.height);
    let is_alike = |frame: &Frame| (frame.width, frame.height) == (width, height);
    if !frames.iter().all(is_alike) {
        return Err(RecordingError::Size);
    }
    let row_bytes = width as usize * 3;
    let rgb: Vec<u8> = (0..height as usize)
        .flat_map(|row| {
            let parts = frames.iter();
            parts.flat_map(move |frame| frame.rgb[row * row_bytes..][..row_bytes].iter().copied())
        })
        .collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width * frames.len() as u32, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&rgb)?;
    writer.finish()?;
    Ok(bytes)
}
