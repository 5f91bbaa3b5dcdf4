//! What an evaluator records while it measures: the first episode of every so many evaluations, in a
//! folder that holds so many files at most.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery_common::configuration::EvaluationConfiguration;
use rookery_common::spaces::EnvironmentSpec;
use rookery_common::wire::Publication;
use tokio::task::JoinHandle;

use super::{Episode, Format, RecordingError, film};
use crate::collector::ActingPolicy;

/// The folder where no other is named.
const FOLDER: &str = "recordings";
/// How long the end of a session waits for a recording in work.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is recorded, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingPlan {
    /// Evaluations from one that is recorded to the next.
    every: u32,
    folder: PathBuf,
    /// Files that stay.
    keep: usize,
}

impl RecordingPlan {
    /// What the configuration wants; `None` where it wants nothing.
    #[must_use]
    pub fn new(evaluation: &EvaluationConfiguration) -> Option<Self> {
        let folder = evaluation.recordings.as_deref();
        Some(Self {
            every: evaluation.record_every?,
            folder: folder.unwrap_or(Path::new(FOLDER)).to_owned(),
            keep: evaluation.keep_recordings as usize,
        })
    }

    /// Makes the folder.
    ///
    /// # Errors
    /// The file system's.
    pub fn make_folder(&self) -> Result<(), RecordingError> {
        fs::create_dir_all(&self.folder).map_err(|source| RecordingError::File {
            path: self.folder.clone(),
            source,
        })
    }

    /// Films one episode, keeps it, and removes the oldest beyond the bound.
    fn record(&self, scene: &Scene) -> Result<(), RecordingError> {
        let began = Instant::now();
        let policy = &scene.version.policy;
        let film = film(&scene.environment, policy, scene.episode, Format::Gif)?;
        let path = self.folder.join(scene.file_name(film.return_));
        // Two evaluators may share the folder.
        let temporary = self.folder.join(format!(".{}.gif", std::process::id()));
        let written = fs::write(&temporary, &film.bytes)
            .and_then(|()| fs::rename(&temporary, &path))
            .and_then(|()| drop_oldest(&self.folder, self.keep));
        written.map_err(|source| RecordingError::File {
            path: path.clone(),
            source,
        })?;
        tracing::info!(
            file = %path.display(),
            episode_return = film.return_,
            length = film.length,
            seconds = began.elapsed().as_secs_f64(),
            "recorded"
        );
        Ok(())
    }
}

/// Beside evaluations, so that none of them waits: one recording at a time, on a thread of its own.
#[derive(Debug)]
pub struct Recorder {
    plan: Option<Arc<RecordingPlan>>,
    /// Evaluations since the last that was recorded; the first one is due.
    since: u32,
    in_work: Option<JoinHandle<()>>,
}

/// An episode that is to be recorded.
pub(crate) struct Scene {
    pub(crate) environment: EnvironmentSpec,
    pub(crate) version: Arc<ActingPolicy>,
    pub(crate) episode: Episode,
    pub(crate) number: u64,
    pub(crate) env_steps: u64,
}

impl Scene {
    /// An episode of an evaluation of `publication`.
    pub(crate) fn new(
        environment: &EnvironmentSpec,
        version: &Arc<ActingPolicy>,
        publication: &Publication,
        episode: Episode,
    ) -> Self {
        Self {
            environment: environment.clone(),
            version: Arc::clone(version),
            episode,
            number: publication.version.version,
            env_steps: publication.env_steps,
        }
    }

    /// Files sort by the steps of training.
    fn file_name(&self, return_: f64) -> String {
        let Self {
            number, env_steps, ..
        } = self;
        format!("steps-{env_steps:012}-version-{number}-return-{return_:.1}.gif")
    }
}

impl Recorder {
    /// One that has recorded nothing yet.
    #[must_use]
    pub fn new(plan: Option<RecordingPlan>) -> Self {
        Self {
            plan: plan.map(Arc::new),
            since: 0,
            in_work: None,
        }
    }

    /// Counts an evaluation and begins to record an episode of it where it is its turn. While another
    /// recording is in work the turn passes to the next evaluation.
    pub(crate) fn evaluated(&mut self, scene: impl FnOnce() -> Scene) {
        let Some(plan) = &self.plan else { return };
        let is_due = self.since == 0 || self.since >= plan.every;
        if !is_due {
            self.since += 1;
            return;
        }
        if self
            .in_work
            .as_ref()
            .is_some_and(|work| !work.is_finished())
        {
            self.since = plan.every;
            tracing::debug!("the last recording is still in work");
            return;
        }
        self.since = 1;
        let (plan, scene) = (Arc::clone(plan), scene());
        self.in_work = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = plan.record(&scene) {
                tracing::warn!(%error, "cannot record an evaluation");
            }
        }));
    }

    /// Waits a moment for the recording in work.
    pub(crate) async fn finish(&mut self) {
        // One that takes longer is lost with the process, or goes on beside the next session.
        if let Some(work) = &mut self.in_work
            && tokio::time::timeout(PATIENCE, work).await.is_ok()
        {
            self.in_work = None;
        }
    }
}

/// Removes recordings beyond the `keep` newest.
fn drop_oldest(folder: &Path, keep: usize) -> std::io::Result<()> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("steps-") && name.ends_with(".gif") {
            files.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    files.sort();
    let excess = files.len().saturating_sub(keep);
    for (_, path) in &files[..excess] {
        fs::remove_file(path)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rookery_common::policy::{Acting, Activation, Exploration, Policy, PolicySpec};

    use super::*;
    use crate::environments;

    fn scene(number: u64) -> Scene {
        let cart = environments::make("CartPole-v1", &BTreeMap::new(), 1).unwrap();
        let environment = cart.spec().clone();
        let (observation, action) = (&environment.observation, &environment.action);
        let spec = PolicySpec::new(observation, action, vec![4], Activation::Tanh).unwrap();
        let policy = Policy::new(spec.clone(), &vec![0.0; spec.layout().len()], None).unwrap();
        let version = ActingPolicy {
            policy,
            acting: Acting::new(&spec, &Exploration::None, &BTreeMap::new()).unwrap(),
        };
        Scene {
            environment,
            version: Arc::new(version),
            episode: Episode {
                seed: 1,
                index: 0,
                length: 9,
            },
            number,
            env_steps: 1000 * number,
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn plan(folder: &Path, every: u32) -> RecordingPlan {
        RecordingPlan {
            every,
            folder: folder.to_owned(),
            keep: 2,
        }
    }

    #[test]
    fn the_newest_recordings_stay_and_other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mine.gif"), "").unwrap();
        for number in 1..=4 {
            plan(folder.path(), 1).record(&scene(number)).unwrap();
        }
        let names = names(folder.path());
        assert_eq!(names.len(), 3, "{names:?}");
        assert_eq!(names[0], "mine.gif");
        assert!(names[1].starts_with("steps-000000003000-version-3-return-"));
        assert!(names[2].starts_with("steps-000000004000-version-4-return-"));
    }

    #[tokio::test]
    async fn the_first_evaluation_and_every_third_after_it_are_recorded() {
        let folder = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::new(Some(plan(folder.path(), 3)));
        for number in 1..=6 {
            recorder.evaluated(|| scene(number));
            recorder.finish().await;
        }
        let names = names(folder.path());
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(names[0].contains("version-1-") && names[1].contains("version-4-"));
    }

    #[tokio::test]
    async fn without_a_plan_nothing_is_looked_at() {
        let mut recorder = Recorder::new(None);
        recorder.evaluated(|| panic!("a scene was made"));
        recorder.finish().await;
    }
}
