//! One episode of a policy in pictures: as a GIF, or as a strip in a PNG.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use rookery_common::policy::{Inputs, Policy, Workspace};
use rookery_common::seeds::Purpose;
use rookery_common::spaces::EnvironmentSpec;

use crate::environments::{self, EnvironmentError, EnvironmentFault, Frame};
use crate::shard::{FinalObservations, Shard, StepRow};

/// An episode that was watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// What was seen before every step, as long as that was wanted.
    pub frames: Vec<Frame>,
    /// The sum of the environment's own rewards, where the episode has ended.
    pub return_: Option<f64>,
}

/// Why an episode cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The environment cannot be made.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The environment broke.
    #[error(transparent)]
    Fault(#[from] EnvironmentFault),
    /// Nobody has said how the environment is drawn.
    #[error("`{id}` draws no pictures; record another environment")]
    Invisible {
        /// The environment.
        id: String,
    },
    /// There is nothing to write.
    #[error("there are no frames of one size to write")]
    NoFrames,
    /// A GIF cannot be written.
    #[error("cannot write a GIF: {0}")]
    Gif(#[from] gif::EncodingError),
    /// There is no file to write to.
    #[error("cannot write {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A PNG cannot be written.
    #[error("cannot write a PNG: {0}")]
    Png(#[from] png::EncodingError),
}

/// Plays one episode of the policy's mode and keeps at most `max_frames` of its pictures. Wrappers
/// that are for training alone are left out, as in an evaluation.
///
/// # Errors
/// Where the environment cannot be made or draws no pictures.
pub fn record(
    environment: &EnvironmentSpec,
    policy: &Policy,
    seed: u64,
    max_frames: usize,
) -> Result<Recording, RecordingError> {
    let bare = environments::make_visible(&environment.id, &environment.arguments, 1)?;
    let batch = environments::wrap(bare, &environments::for_evaluation(&environment.wrappers))?;
    let mut shard = Shard::new(batch, 0, seed, Purpose::Evaluation)?
        .with_recurrent_state(policy.spec().state_width());
    let mut workspace = Workspace::default();
    let mut observation = vec![0.0; environment.observation.width()];
    shard.observe(&mut observation);
    let mut action = vec![0.0; environment.action.width()];
    let mut frames = Vec::new();
    let mut episodes = Vec::new();
    while episodes.is_empty() && frames.len() < max_frames {
        let frame = shard.render(0)?.ok_or_else(|| RecordingError::Invisible {
            id: environment.id.clone(),
        })?;
        frames.push(frame);
        let inputs = Inputs {
            observations: &observation,
            state: shard.recurrent_state(),
        };
        policy.act_greedily(&mut workspace, inputs, &mut action);
        shard.step(
            &action,
            StepRow {
                next_observations: &mut observation,
                rewards: &mut [0.0],
                terminated: &mut [0],
                truncated: &mut [0],
                finals: &mut FinalObservations::default(),
                episodes: &mut episodes,
            },
        )?;
    }
    Ok(Recording {
        frames,
        return_: episodes.first().map(|episode| episode.return_),
    })
}

/// Draws one episode of the policy's mode, as a GIF in the file `path`: half a minute of it at most, as
/// fast as `CartPole` is.
///
/// # Errors
/// As [`record`], and where the file cannot be written.
pub fn draw(
    environment: &EnvironmentSpec,
    policy: &Policy,
    seed: u64,
    path: &Path,
) -> Result<(), RecordingError> {
    const MAX_FRAMES: usize = 1500;
    const FRAMES_PER_SECOND: u32 = 30;
    let recording = record(environment, policy, seed, MAX_FRAMES)?;
    let file = File::create(path).map_err(|source| RecordingError::File {
        path: path.to_owned(),
        source,
    })?;
    write_gif(&recording.frames, FRAMES_PER_SECOND, BufWriter::new(file))
}

/// Writes frames as a GIF that is shown again and again.
///
/// # Errors
/// Where there is no frame, frames differ in size, or `to` cannot be written.
pub fn write_gif(
    frames: &[Frame],
    frames_per_second: u32,
    to: impl Write,
) -> Result<(), RecordingError> {
    /// Speed over quality, from 1 to 30, where there are more colours than a palette holds.
    const SPEED: i32 = 10;
    let (width, height) = size(frames)?;
    let (Ok(width), Ok(height)) = (u16::try_from(width), u16::try_from(height)) else {
        return Err(RecordingError::NoFrames);
    };
    let mut encoder = gif::Encoder::new(to, width, height, &[])?;
    encoder.set_repeat(gif::Repeat::Infinite)?;
    for frame in frames {
        let mut frame = gif::Frame::from_rgb_speed(width, height, &frame.rgb, SPEED);
        // In hundredths of a second; viewers take less than two for ten.
        frame.delay = (100 / frames_per_second.max(1)).clamp(2, 1000) as u16;
        encoder.write_frame(&frame)?;
    }
    Ok(())
}

/// Writes `count` frames beside each other as a PNG: the first, the last, and evenly between them.
///
/// # Errors
/// As [`write_gif`].
pub fn write_strip(frames: &[Frame], count: usize, to: impl Write) -> Result<(), RecordingError> {
    let (width, height) = size(frames)?;
    let count = count.clamp(1, frames.len());
    let chosen: Vec<&Frame> = (0..count)
        .map(|index| &frames[index * (frames.len() - 1) / (count - 1).max(1)])
        .collect();
    let row_bytes = width as usize * 3;
    let rgb: Vec<u8> = (0..height as usize)
        .flat_map(|row| {
            let rows = chosen.iter();
            rows.flat_map(move |frame| frame.rgb[row * row_bytes..][..row_bytes].iter().copied())
        })
        .collect();
    let mut encoder = png::Encoder::new(to, width * count as u32, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&rgb)?;
    writer.finish()?;
    Ok(())
}

/// The size of all frames.
fn size(frames: &[Frame]) -> Result<(u32, u32), RecordingError> {
    let first = frames.first().ok_or(RecordingError::NoFrames)?;
    let size = (first.width, first.height);
    let is_alike = frames
        .iter()
        .all(|frame| (frame.width, frame.height) == size);
    if is_alike {
        Ok(size)
    } else {
        Err(RecordingError::NoFrames)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rookery_common::policy::{Activation, PolicySpec};
    use rookery_common::wrappers::Wrapper;

    use super::*;

    /// A policy that always takes the first action, and its environment.
    fn still(id: &str, wrappers: &[Wrapper]) -> (EnvironmentSpec, Policy) {
        let bare = environments::make(id, &BTreeMap::new(), 1).unwrap();
        let environment = environments::wrap(bare, wrappers).unwrap().spec().clone();
        let (observation, action) = (&environment.observation, &environment.action);
        let spec = PolicySpec::new(observation, action, vec![4], Activation::Tanh).unwrap();
        let policy = Policy::new(spec.clone(), &vec![0.0; spec.layout().len()], None).unwrap();
        (environment, policy)
    }

    #[test]
    fn an_episode_is_watched_to_its_end() {
        let (environment, policy) = still("CartPole-v1", &[]);
        let recording = record(&environment, &policy, 3, 100).unwrap();
        // A frame before each step, and 1 for each of them.
        assert_eq!(recording.return_, Some(recording.frames.len() as f64));
        assert!((8..12).contains(&recording.frames.len()));
        assert!(recording.frames.windows(2).all(|pair| pair[0] != pair[1]));
        let cut = record(&environment, &policy, 3, 4).unwrap();
        assert_eq!(cut.frames, recording.frames[..4]);
        assert_eq!(cut.return_, None);
    }

    #[test]
    fn a_gif_and_a_strip_hold_the_frames() {
        let (environment, policy) = still("FrozenLake-v1", &[Wrapper::FlattenObservation {}]);
        let frames = record(&environment, &policy, 3, 7).unwrap().frames;
        let mut bytes = Vec::new();
        write_gif(&frames, 5, &mut bytes).unwrap();
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(bytes.as_slice()).unwrap();
        let mut read = Vec::new();
        while let Some(frame) = decoder.read_next_frame().unwrap() {
            assert_eq!((frame.width, frame.height, frame.delay), (256, 256, 20));
            read.push(frame.buffer.to_vec());
        }
        assert_eq!(read.len(), frames.len());
        // Few colours are kept exactly.
        let pixels = read[0].chunks(4).flat_map(|pixel| pixel[..3].to_vec());
        assert_eq!(pixels.collect::<Vec<u8>>(), frames[0].rgb);

        let mut bytes = Vec::new();
        write_strip(&frames, 3, &mut bytes).unwrap();
        let mut reader = png::Decoder::new(io::Cursor::new(bytes))
            .read_info()
            .unwrap();
        let mut strip = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut strip).unwrap();
        assert_eq!((info.width, info.height), (3 * 256, 256));
        let row = 256 * 3;
        for (place, frame) in [0, 3, 6].into_iter().enumerate() {
            assert_eq!(strip[place * row..][..row], frames[frame].rgb[..row]);
        }
    }

    #[test]
    fn what_cannot_be_drawn_or_written_is_an_error() {
        let (environment, policy) = still("TMaze-v0", &[]);
        assert_eq!(
            record(&environment, &policy, 3, 5).unwrap_err().to_string(),
            "`TMaze-v0` draws no pictures; record another environment"
        );
        let refused = write_gif(&[], 5, Vec::new());
        assert!(matches!(refused, Err(RecordingError::NoFrames)));
        let frame = |width| Frame {
            width,
            height: 1,
            rgb: vec![0; 3 * width as usize],
        };
        let refused = write_strip(&[frame(1), frame(2)], 2, Vec::new());
        assert!(matches!(refused, Err(RecordingError::NoFrames)));
    }
}
