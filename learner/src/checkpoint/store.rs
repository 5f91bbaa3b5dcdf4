//! Directories of files that are whole or absent.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::state::{LearnerState, StateError};
use rookery_common::hash::sha256_hex;
use rookery_common::policy::PolicyArtifact;

/// Format of the directory; a reader refuses another.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const POLICY: &str = "policy.safetensors";
/// Extension of a directory that is being replaced by a new one of its name.
const REPLACED: &str = "old";
const TEMPORARY_PREFIX: &str = ".writing-";

/// What a checkpoint says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format of the directory.
    pub format: u32,
    /// The release that wrote it.
    pub software_version: String,
    /// The run.
    pub run_id: String,
    /// The version whose parameters it holds.
    pub version: u64,
    /// Environment steps consumed.
    pub env_steps: u64,
    /// Seconds since 1970, for people.
    pub written_at: u64,
    /// The configuration in effect, as TOML.
    pub configuration: String,
    /// Each file's size and hash.
    pub files: BTreeMap<String, FileEntry>,
}

/// Size and hash of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Size.
    pub bytes: u64,
    /// Lower-case hexadecimal SHA-256.
    pub sha256: String,
}

/// Why a checkpoint could not be written. Those on disk are as they were.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file system refused.
    #[error("cannot write checkpoint {path}: {source}; the earlier checkpoints are intact")]
    Io {
        /// What was being written.
        path: PathBuf,
        /// The file system's reason.
        source: io::Error,
    },
    /// The state cannot be encoded.
    #[error(transparent)]
    State(#[from] StateError),
    /// The policy cannot be encoded.
    #[error(transparent)]
    Policy(#[from] rookery_common::policy::ArtifactError),
}

/// Why no checkpoint could be read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// There is none.
    #[error("there is no checkpoint in {0}; start without --resume")]
    None(PathBuf),
    /// There are some and none is whole.
    #[error(
        "no checkpoint in {directory} is whole: {}; restore one from a copy, or start afresh in \
         another directory",
        .faults.join("; ")
    )]
    AllCorrupt {
        /// Where they lie.
        directory: PathBuf,
        /// Each checkpoint with its fault, newest first.
        faults: Vec<String>,
    },
    /// The directory cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// What was being read.
        path: PathBuf,
        /// The file system's reason.
        source: io::Error,
    },
}

/// The policy with the best mean training return so far.
#[derive(Clone, Debug)]
pub struct BestPolicy {
    /// What acts.
    pub policy: PolicyArtifact,
    /// The mean return.
    pub mean_return: f64,
}

/// The checkpoints of one run.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    directory: PathBuf,
    num_kept: usize,
}

impl CheckpointStore {
    /// Uses `<run directory>/checkpoints` and keeps the newest `num_kept`.
    #[must_use]
    pub fn new(run_directory: &Path, num_kept: usize) -> Self {
        Self {
            directory: run_directory.join("checkpoints"),
            num_kept: num_kept.max(1),
        }
    }

    /// Whether there is any checkpoint, whole or not.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.versions().map_or(true, |versions| versions.is_empty())
    }

    /// Where the checkpoint of a version is.
    #[must_use]
    pub fn directory(&self, version: u64) -> PathBuf {
        self.directory.join(format!("{version:08}"))
    }

    /// Writes one checkpoint and returns its directory.
    ///
    /// # Errors
    /// [`WriteError`]; what was on disk stays.
    pub fn write(
        &self,
        state: &LearnerState,
        policy: &PolicyArtifact,
        configuration: &str,
    ) -> Result<PathBuf, WriteError> {
        let mut files = vec![
            (POLICY, policy.to_bytes()?),
            (LearnerState::TENSORS, state.tensors()?),
            (LearnerState::STATE, state.encode()?),
        ];
        if let Some(replay) = state.replay()? {
            files.push((LearnerState::REPLAY, replay));
        }
        let name = format!("{:08}", state.round);
        let manifest = Manifest {
            format: FORMAT,
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            run_id: state.run_id.clone(),
            version: state.round,
            env_steps: state.env_steps,
            written_at: rookery_common::telemetry::unix_seconds() as u64,
            configuration: configuration.to_owned(),
            files: entries(&files),
        };
        let directory = self.install(&name, &files, &manifest)?;
        self.link_latest(&name)?;
        self.prune(state.round);
        Ok(directory)
    }

    /// Writes the best policy, replacing the one before.
    ///
    /// # Errors
    /// [`WriteError`]; what was on disk stays.
    pub fn write_best(
        &self,
        best: &BestPolicy,
        run_id: &str,
        configuration: &str,
    ) -> Result<PathBuf, WriteError> {
        let files = vec![(POLICY, best.policy.to_bytes()?)];
        let manifest = Manifest {
            format: FORMAT,
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            run_id: run_id.to_owned(),
            version: best.policy.version,
            env_steps: best.policy.env_steps,
            written_at: rookery_common::telemetry::unix_seconds() as u64,
            configuration: configuration.to_owned(),
            files: entries(&files),
        };
        self.install("best", &files, &manifest)
    }

    /// Reads the newest checkpoint that is whole; the faults of newer ones come with it.
    ///
    /// # Errors
    /// Where there is none, or none that is whole.
    pub fn read_newest(&self) -> Result<(LearnerState, Manifest, Vec<String>), CheckpointError> {
        let mut versions = self.versions().map_err(|source| CheckpointError::Io {
            path: self.directory.clone(),
            source,
        })?;
        if versions.is_empty() {
            return Err(CheckpointError::None(self.directory.clone()));
        }
        let mut faults = Vec::new();
        while let Some(version) = versions.pop() {
            let directory = self.directory(version);
            match read(&directory) {
                Ok((state, manifest)) => return Ok((state, manifest, faults)),
                Err(fault) => faults.push(format!("{version:08}: {fault}")),
            }
        }
        Err(CheckpointError::AllCorrupt {
            directory: self.directory.clone(),
            faults,
        })
    }

    /// Removes what an interrupted write left behind, and gives a directory that was being
    /// replaced its name back.
    pub fn remove_leftovers(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if path
                .extension()
                .is_some_and(|extension| extension == REPLACED)
            {
                let replaced = path.with_extension("");
                // Both are best effort: the next start tries again.
                let _ = if replaced.exists() {
                    fs::remove_dir_all(&path)
                } else {
                    fs::rename(&path, &replaced)
                };
                continue;
            }
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with(TEMPORARY_PREFIX)
            {
                // It is in nobody's way; the next start tries again.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Versions of the checkpoints, ascending.
    fn versions(&self) -> io::Result<Vec<u64>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut versions = Vec::new();
        for entry in entries {
            if let Ok(version) = entry?.file_name().to_string_lossy().parse() {
                versions.push(version);
            }
        }
        versions.sort_unstable();
        Ok(versions)
    }

    /// Writes files and manifest under a temporary name, flushes them and gives them `name`.
    fn install(
        &self,
        name: &str,
        files: &[(&str, Vec<u8>)],
        manifest: &Manifest,
    ) -> Result<PathBuf, WriteError> {
        let directory = self.directory.join(name);
        let temporary = self.directory.join(format!("{TEMPORARY_PREFIX}{name}"));
        let written = write_directory(&temporary, files, manifest)
            .and_then(|()| replace(&temporary, &directory))
            .and_then(|()| flush_directory(&self.directory));
        match written {
            Ok(()) => Ok(directory),
            Err(source) => {
                // What a full disk needs most is room.
                let _ = fs::remove_dir_all(&temporary);
                Err(WriteError::Io {
                    path: directory,
                    source,
                })
            }
        }
    }

    fn link_latest(&self, name: &str) -> Result<(), WriteError> {
        let link = self.directory.join("latest");
        let temporary = self.directory.join(format!("{TEMPORARY_PREFIX}latest"));
        let _ = fs::remove_file(&temporary);
        std::os::unix::fs::symlink(name, &temporary)
            .and_then(|()| fs::rename(&temporary, &link))
            .and_then(|()| flush_directory(&self.directory))
            .map_err(|source| WriteError::Io { path: link, source })
    }

    /// Removes what is older than the newest `num_kept` up to the one just written. Those beyond
    /// it are damaged, or of a future that a resume has undone: they never push out a whole one.
    fn prune(&self, written: u64) {
        let Ok(mut versions) = self.versions() else {
            return;
        };
        versions.retain(|version| *version <= written);
        for version in versions.iter().rev().skip(self.num_kept) {
            // A checkpoint too many harms nothing.
            let _ = fs::remove_dir_all(self.directory(*version));
        }
    }
}

fn entries(files: &[(&str, Vec<u8>)]) -> BTreeMap<String, FileEntry> {
    files
        .iter()
        .map(|(name, content)| {
            let entry = FileEntry {
                bytes: content.len() as u64,
                sha256: sha256_hex(content),
            };
            ((*name).to_owned(), entry)
        })
        .collect()
}

fn write_directory(
    directory: &Path,
    files: &[(&str, Vec<u8>)],
    manifest: &Manifest,
) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::create_dir_all(directory)?,
    }
    for (name, content) in files {
        write_file(&directory.join(name), content)?;
    }
    let manifest = serde_json::to_vec_pretty(manifest)?;
    write_file(&directory.join(MANIFEST), &manifest)?;
    flush_directory(directory)
}

fn write_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn flush_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Gives `temporary` the name `directory`; what had the name before goes.
fn replace(temporary: &Path, directory: &Path) -> io::Result<()> {
    if directory.exists() {
        let old = directory.with_extension(REPLACED);
        let _ = fs::remove_dir_all(&old);
        fs::rename(directory, &old)?;
        fs::rename(temporary, directory)?;
        return fs::remove_dir_all(&old);
    }
    fs::rename(temporary, directory)
}

/// Reads one checkpoint; the error says in words what is wrong with it.
fn read(directory: &Path) -> Result<(LearnerState, Manifest), String> {
    let file = |name: &str| {
        fs::read(directory.join(name)).map_err(|error| format!("{name} cannot be read ({error})"))
    };
    let manifest: Manifest = serde_json::from_slice(&file(MANIFEST)?)
        .map_err(|error| format!("{MANIFEST} is malformed ({error})"))?;
    if manifest.format != FORMAT {
        return Err(format!(
            "it has format {}, this release reads format {FORMAT}",
            manifest.format
        ));
    }
    let mut contents = BTreeMap::new();
    for (name, entry) in &manifest.files {
        let content = file(name)?;
        if content.len() as u64 != entry.bytes {
            return Err(format!(
                "{name} has {} bytes, expected {}",
                content.len(),
                entry.bytes
            ));
        }
        if sha256_hex(&content) != entry.sha256 {
            return Err(format!(
                "{name} does not have the hash that {MANIFEST} states"
            ));
        }
        contents.insert(name.as_str(), content);
    }
    let part = |name: &str| {
        contents
            .get(name)
            .map(Vec::as_slice)
            .ok_or_else(|| format!("{MANIFEST} lacks {name}"))
    };
    let replay = contents.get(LearnerState::REPLAY).cloned();
    let state = part(LearnerState::STATE)?;
    let state = LearnerState::decode(state, part(LearnerState::TENSORS)?, replay)
        .map_err(|error| error.to_string())?;
    Ok((state, manifest))
}
