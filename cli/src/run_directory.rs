//! The folder of one run: what lies where in it, and how a new one gets its name.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rookery_common::configuration::Configuration;
use rookery_common::exit::Exit;
use rookery_common::security::Address;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::failure::Failure;

/// The longest path that the kernel takes for a Unix socket, without its final zero.
const MAX_SOCKET_PATH_BYTES: usize = 107;
const SOCKET: &str = "learner.sock";

/// A run's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunDirectory(PathBuf);

/// Which of a run's policies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Checkpoint {
    /// The newest.
    #[default]
    Latest,
    /// The one with the best mean training return.
    Best,
}

impl Checkpoint {
    /// Its folder's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::Best => "best",
        }
    }
}

/// What the learner says at its end, in `summary.json`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct LearnerSummary {
    /// How training ended.
    pub(crate) outcome: Outcome,
    /// Environment steps consumed.
    pub(crate) env_steps: u64,
    /// Updates done.
    pub(crate) updates: u64,
    /// Seconds of training.
    pub(crate) wall_seconds: f64,
    /// Over the last 100 training episodes.
    pub(crate) mean_return: Option<f64>,
    /// Seconds of training before the threshold was first reached.
    pub(crate) solved_at_seconds: Option<f64>,
    /// Environment steps before the threshold was first reached.
    pub(crate) solved_at_env_steps: Option<u64>,
    /// Of all parameters, in lower-case hexadecimal.
    pub(crate) parameters_sha256: String,
    /// Consumed unrolls whose environments had been reset before them.
    pub(crate) discontinuities: u64,
    /// Why the last of them had been.
    #[serde(default)]
    pub(crate) last_discontinuity: Option<String>,
    /// What limited the run at its end.
    #[serde(default)]
    pub(crate) bottleneck: Option<Bottleneck>,
    /// What looked sick at its end.
    #[serde(default)]
    pub(crate) diagnoses: Vec<Diagnosis>,
}

/// What limits a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bottleneck {
    /// The stage.
    pub(crate) stage: String,
    /// How busy it is, 0 to 1.
    pub(crate) busy_ratio: f64,
    /// What to do about it.
    pub(crate) advice: String,
    /// How many actors like those of now would do.
    pub(crate) suggested_actors: Option<u32>,
}

/// Something that looks sick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Diagnosis {
    /// The rule.
    pub(crate) name: String,
    /// What was seen.
    pub(crate) cause: String,
    /// What helps.
    pub(crate) remedy: String,
    /// Environment steps consumed when it was first seen.
    pub(crate) since_env_steps: u64,
}

/// How training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// All updates are done.
    Finished,
    /// Somebody ended it early; it can be resumed.
    Stopped,
}

impl RunDirectory {
    /// The folder of a run that exists.
    ///
    /// # Errors
    /// Where there is no such folder.
    pub(crate) fn existing(path: &Path) -> anyhow::Result<Self> {
        if path.is_dir() {
            return Ok(Self(path.to_owned()));
        }
        let message = format!(
            "{} is no run directory; name one that `train` wrote",
            path.display()
        );
        Err(Failure::usage(message).into())
    }

    /// Makes the folder `path`, where it is not there yet.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }

    /// Makes the first folder `<stem>-001`, `<stem>-002`, ... of `parent` that is free. Two processes
    /// never get the same one.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn claim(parent: &Path, stem: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        for number in 1_u64.. {
            let path = parent.join(format!("{stem}-{number:03}"));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot make {}", path.display()));
                }
            }
        }
        unreachable!("a file system holds fewer than 2^64 folders")
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The configuration in effect.
    pub(crate) fn configuration_file(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    /// One JSON object for each update.
    pub(crate) fn metrics_file(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }

    /// What the processes have to say.
    pub(crate) fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// What an evaluator has recorded.
    pub(crate) fn recordings(&self) -> PathBuf {
        self.0.join("recordings")
    }

    /// What acts.
    pub(crate) fn policy_file(&self, checkpoint: Checkpoint) -> PathBuf {
        self.checkpoint(checkpoint).join("policy.safetensors")
    }

    /// All parameters and the optimiser's state.
    pub(crate) fn learner_file(&self) -> PathBuf {
        self.checkpoint(Checkpoint::Latest)
            .join("learner.safetensors")
    }

    fn checkpoint(&self, checkpoint: Checkpoint) -> PathBuf {
        self.0.join("checkpoints").join(checkpoint.name())
    }

    fn summary_file(&self) -> PathBuf {
        self.0.join("summary.json")
    }

    /// Writes the configuration in effect, whole or not at all.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn write_configuration(&self, text: &str) -> anyhow::Result<()> {
        let path = self.configuration_file();
        let temporary = self.0.join(".config.toml.writing");
        fs::write(&temporary, text)
            .and_then(|()| fs::rename(&temporary, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads the configuration in effect.
    ///
    /// # Errors
    /// Where it cannot be read or is unsound.
    pub(crate) fn read_configuration(&self) -> anyhow::Result<Configuration> {
        let path = self.configuration_file();
        let text = fs::read_to_string(&path).map_err(|error| {
            Failure::usage(format!(
                "cannot read {}: {error}; is this a run directory?",
                path.display()
            ))
        })?;
        Configuration::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    /// Where this run's learner says that it listens; `None` where none says so. One that was killed
    /// takes nothing back.
    ///
    /// # Errors
    /// Where the file is there and cannot be understood.
    pub(crate) fn learner_address(&self) -> anyhow::Result<Option<Address>> {
        let path = self.0.join("learner_address");
        match fs::read_to_string(&path) {
            Ok(text) => text
                .trim()
                .parse()
                .map(Some)
                .with_context(|| format!("cannot understand {}", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// What the learner wrote at its end; `None` where it wrote nothing.
    ///
    /// # Errors
    /// Where the file is there and cannot be understood.
    pub(crate) fn read_summary(&self) -> anyhow::Result<Option<LearnerSummary>> {
        let path = self.summary_file();
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .with_context(|| format!("cannot understand {}", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Removes what the learner of an earlier process wrote at its end.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn forget_summary(&self) -> anyhow::Result<()> {
        let path = self.summary_file();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Where the learner of this host listens: in this folder, or in a temporary one where this
    /// folder's path is too long for a socket.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn socket(&self) -> anyhow::Result<Socket> {
        let path =
            std::path::absolute(self.0.join(SOCKET)).context("there is no working directory")?;
        if path.as_os_str().len() <= MAX_SOCKET_PATH_BYTES {
            return Ok(Socket {
                address: Address::Unix(path),
                _folder: None,
            });
        }
        let folder = tempfile::Builder::new()
            .prefix("rookery-")
            .tempdir()
            .map_err(|error| {
                Failure::new(
                    Exit::Internal,
                    format!("cannot make a folder for a socket: {error}"),
                )
            })?;
        let address = Address::Unix(folder.path().join(SOCKET));
        Ok(Socket {
            address,
            _folder: Some(folder),
        })
    }
}

/// A place for a Unix socket.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Its address.
    pub(crate) address: Address,
    /// Removed with this value.
    _folder: Option<TempDir>,
}

/// What a run of `source` (a preset's name or a file) is called: letters, digits, `.`, `_`, `-`.
pub(crate) fn stem(source: &str, seed: u64) -> String {
    let name = Path::new(source).file_stem().unwrap_or(OsStr::new("run"));
    let name: String = name
        .as_bytes()
        .iter()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => char::from(*byte),
            _ => '_',
        })
        .collect();
    format!("{name}-{seed}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_free_number_is_claimed() {
        let parent = tempfile::tempdir().unwrap();
        let runs = parent.path().join("runs");
        let names: Vec<_> = (0..3)
            .map(|_| RunDirectory::claim(&runs, "cartpole-ppo-1").unwrap().0)
            .map(|path| path.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(
            names,
            [
                "cartpole-ppo-1-001",
                "cartpole-ppo-1-002",
                "cartpole-ppo-1-003"
            ]
        );
    }

    #[test]
    fn stems_are_plain_file_names() {
        assert_eq!(stem("cartpole-ppo", 7), "cartpole-ppo-7");
        assert_eq!(stem("../my configs/a b.toml", 1), "a_b-1");
    }

    #[test]
    fn a_socket_moves_out_of_a_folder_whose_path_is_too_long() {
        let parent = tempfile::tempdir().unwrap();
        let short = RunDirectory::create(&parent.path().join("a")).unwrap();
        let Address::Unix(path) = short.socket().unwrap().address else {
            panic!("no socket")
        };
        assert_eq!(path, short.path().join(SOCKET));

        let long = RunDirectory::create(&parent.path().join("a".repeat(100))).unwrap();
        let socket = long.socket().unwrap();
        let Address::Unix(path) = &socket.address else {
            panic!("no socket")
        };
        assert!(
            path.as_os_str().len() <= MAX_SOCKET_PATH_BYTES,
            "{}",
            path.display()
        );
        assert!(path.parent().unwrap().is_dir());
    }

    #[test]
    fn a_summary_is_read_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::existing(folder.path()).unwrap();
        assert_eq!(run.read_summary().unwrap(), None);
        let text = r#"{"outcome": "stopped", "env_steps": 2048, "updates": 1, "wall_seconds": 0.5,
            "episodes": 9, "mean_return": 21.5, "evaluation_return": null,
            "solved_at_seconds": null, "solved_at_env_steps": null, "parameters_sha256": "ab",
            "discontinuities": 0,
            "unrolls": {}}"#;
        fs::write(folder.path().join("summary.json"), text).unwrap();
        let summary = run.read_summary().unwrap().unwrap();
        assert_eq!(summary.outcome, Outcome::Stopped);
        assert_eq!(summary.mean_return, Some(21.5));
        run.forget_summary().unwrap();
        run.forget_summary().unwrap();
        assert_eq!(run.read_summary().unwrap(), None);
    }
}
