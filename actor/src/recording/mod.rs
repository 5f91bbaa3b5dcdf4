//! Episodes of a policy in pictures: as a GIF, or as a strip in a PNG.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rookery_common::policy::{Inputs, Policy, Workspace};
use rookery_common::seeds::Purpose;
use rookery_common::spaces::EnvironmentSpec;

use crate::environments::{self, BatchedEnvironment, EnvironmentError, EnvironmentFault, Frame};
use crate::evaluator::{Evaluation, MAX_STEPS};
use crate::shard::{FinalObservations, Shard, StepRow};

use animation::Animation;

pub(crate) use recorder::Scene;
pub use recorder::{Recorder, RecordingPlan};

mod animation;
mod strip;
mod recorder;

/// Pictures of a GIF, about: of a longer episode some steps are left out, evenly.
const GIF_FRAMES: u32 = 1000;
/// As fast as `CartPole` is drawn by others too.
const FRAMES_PER_SECOND: u32 = 30;
/// Pictures of a strip.
const STRIP_FRAMES: u32 = 8;

/// What pictures become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An animation.
    Gif,
    /// A PNG of eight pictures beside each other: the first, the last, and evenly between them.
    Strip,
}

impl Format {
    /// What a file of this name holds.
    ///
    /// # Errors
    /// Where its name does not say.
    pub fn of(path: &Path) -> Result<Self, RecordingError> {
        let extension = path.extension().map(std::ffi::OsStr::to_ascii_lowercase);
        match extension.as_deref().and_then(std::ffi::OsStr::to_str) {
            Some("gif") => Ok(Self::Gif),
            Some("png") => Ok(Self::Strip),
            _ => Err(RecordingError::Format {
                path: path.to_owned(),
            }),
        }
    }
}

/// An episode of an evaluation, which is played once more to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Episode {
    /// The evaluation's seed.
    pub seed: u64,
    /// Which of its episodes.
    pub index: u32,
    /// The steps that it took.
    pub length: u32,
}

/// An episode in a file's bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Film {
    /// The file.
    pub bytes: Vec<u8>,
    /// The sum of the environment's own rewards.
    pub return_: f64,
    /// Steps.
    pub length: u32,
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
    /// The episode goes on and on.
    #[error("the episode had not ended after {steps} steps, when it was played once more")]
    Endless {
        /// Steps that were taken.
        steps: u32,
    },
    /// A file's name does not say what it is to hold.
    #[error(
        "{} ends in neither .gif, for an animation, nor .png, for a strip of pictures",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// More is to be recorded than is played.
    #[error("{wanted} episodes are to be recorded and {played} played; play as many at least")]
    TooFew {
        /// Episodes to record.
        wanted: u32,
        /// Episodes to play.
        played: u32,
    },
    /// Pictures do not go together.
    #[error("pictures must have one size, of 1 to 65,535 pixels on each side")]
    Size,
    /// There is no file to write to.
    #[error("cannot write {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A GIF cannot be written.
    #[error("cannot write a GIF: {0}")]
    Gif(#[from] gif::EncodingError),
    /// A PNG cannot be written.
    #[error("cannot write a PNG: {0}")]
    Png(#[from] png::EncodingError),
}

/// What is to be recorded of an evaluation: its first episodes, each in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    format: Format,
    path: PathBuf,
    episodes: u32,
}

impl Order {
    /// `episodes` of those that are `played`, in the file `path`, or in `NAME-1.gif`, `NAME-2.gif` and so on
    /// where there are several. The name's end says what they become.
    ///
    /// # Errors
    /// Where the name does not say it, fewer are played, or the environment draws no pictures.
    pub fn new(
        path: &Path,
        episodes: u32,
        played: u32,
        environment: &EnvironmentSpec,
    ) -> Result<Self, RecordingError> {
        let format = Format::of(path)?;
        if episodes > played {
            return Err(RecordingError::TooFew {
                wanted: episodes,
                played,
            });
        }
        check_visible(environment)?;
        Ok(Self {
            format,
            path: path.to_owned(),
            episodes,
        })
    }

    /// Draws them, after the evaluation with this seed has found how they go.
    ///
    /// # Errors
    /// As [`film`], and where a file cannot be written.
    pub fn carry_out(
        &self,
        environment: &EnvironmentSpec,
        policy: &Policy,
        seed: u64,
        evaluation: &Evaluation,
    ) -> Result<(), RecordingError> {
        for (index, length) in (0..self.episodes).zip(&evaluation.lengths) {
            let episode = Episode {
                seed,
                index,
                length: *length,
            };
            let film = film(environment, policy, episode, self.format)?;
            let path = self.file(index);
            fs::write(&path, &film.bytes)
                .map_err(|source| RecordingError::File { path, source })?;
        }
        Ok(())
    }

    /// Where an episode goes.
    fn file(&self, index: u32) -> PathBuf {
        if self.episodes == 1 {
            return self.path.clone();
        }
        let part = |part: Option<&std::ffi::OsStr>| {
            part.unwrap_or_default().to_string_lossy().into_owned()
        };
        let (name, extension) = (part(self.path.file_stem()), part(self.path.extension()));
        let name = format!("{name}-{}.{extension}", index + 1);
        self.path.with_file_name(name)
    }
}

/// Says whether the environment draws pictures.
///
/// # Errors
/// Where it does not, or cannot be made.
pub fn check_visible(environment: &EnvironmentSpec) -> Result<(), RecordingError> {
    let mut shard = stage(environment, 0, 0)?;
    picture(&mut shard).map(|_| ())
}

/// Plays an episode of the policy's mode once more, as it was in the evaluation, and draws it. Wrappers
/// that are for training alone are left out. The last picture shows how it ended, and stays for a
/// second in an animation.
///
/// # Errors
/// Where the environment cannot be made, draws no pictures, or does not come to an end.
pub fn film(
    environment: &EnvironmentSpec,
    policy: &Policy,
    episode: Episode,
    format: Format,
) -> Result<Film, RecordingError> {
    let mut shard = stage(environment, episode.index, episode.seed)?
        .with_recurrent_state(policy.spec().state_width());
    match format {
        Format::Gif => {
            let every = episode.length.div_ceil(GIF_FRAMES).max(1);
            let mut animation: Option<Animation> = None;
            let take = |frame: Frame| {
                let running = match &mut animation {
                    Some(running) => running,
                    None => animation.insert(Animation::new(&frame, FRAMES_PER_SECOND)?),
                };
                running.push(frame)
            };
            let ended = play(&mut shard, policy, |step| step.is_multiple_of(every), take)?;
            let animation = animation.ok_or(RecordingError::Size)?;
            Ok(ended.film(animation.finish(ended.frame.clone())?))
        }
        Format::Strip => {
            let count = STRIP_FRAMES.min(episode.length + 1);
            let places = (0..count - 1).map(|place| place * episode.length / (count - 1));
            let places: Vec<u32> = places.collect();
            let mut frames = Vec::new();
            let take = |frame| {
                frames.push(frame);
                Ok(())
            };
            let ended = play(&mut shard, policy, |step| places.contains(&step), take)?;
            frames.push(ended.frame.clone());
            Ok(ended.film(strip::png(&frames)?))
        }
    }
}

/// How an episode ended.
struct Ended {
    frame: Frame,
    return_: f64,
    length: u32,
}

impl Ended {
    fn film(&self, bytes: Vec<u8>) -> Film {
        Film {
            bytes,
            return_: self.return_,
            length: self.length,
        }
    }
}

/// One environment as the evaluation had it, to be seen.
fn stage(environment: &EnvironmentSpec, index: u32, seed: u64) -> Result<Shard, RecordingError> {
    let bare: Box<dyn BatchedEnvironment> =
        environments::make_visible(&environment.id, &environment.arguments, 1)?;
    let batch = environments::wrap(bare, &environments::for_evaluation(&environment.wrappers))?;
    Ok(Shard::watched(batch, index, seed, Purpose::Evaluation)?)
}

fn picture(shard: &mut Shard) -> Result<Frame, RecordingError> {
    match shard.render(0)? {
        Some(frame) => Ok(frame),
        None => Err(invisible(shard)),
    }
}

fn invisible(shard: &Shard) -> RecordingError {
    RecordingError::Invisible {
        id: shard.spec().id.clone(),
    }
}

/// Plays to the end of the episode and gives what is seen before the steps that are `wanted` to `take`.
fn play(
    shard: &mut Shard,
    policy: &Policy,
    wanted: impl Fn(u32) -> bool,
    mut take: impl FnMut(Frame) -> Result<(), RecordingError>,
) -> Result<Ended, RecordingError> {
    let (observation_width, action_width) = {
        let spec = shard.spec();
        (spec.observation.width(), spec.action.width())
    };
    let mut workspace = Workspace::default();
    let mut observation = vec![0.0; observation_width];
    shard.observe(&mut observation);
    let mut action = vec![0.0; action_width];
    let mut episodes = Vec::new();
    for step in 0..MAX_STEPS {
        if wanted(step) {
            take(picture(shard)?)?;
        }
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
        if let Some(episode) = episodes.first() {
            return Ok(Ended {
                frame: shard.take_final_frame().ok_or_else(|| invisible(shard))?,
                return_: episode.return_,
                length: episode.length,
            });
        }
    }
    Err(RecordingError::Endless { steps: MAX_STEPS })
}

#[cfg(test)]
mod tests;
