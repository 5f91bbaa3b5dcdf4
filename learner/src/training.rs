//! What the rounds of a run change: exactly what a checkpoint holds.

use std::collections::VecDeque;
use std::time::Instant;

use rookery_common::configuration::{Configuration, Schedule};
use rookery_common::normaliser::{ObservationNormaliser, RewardScaler, RunningMoments};
use rookery_common::policy::{PolicyArtifact, PolicySpec};
use rookery_common::unroll::{UnrollIndex, scheduled_version};
use tch::Device;

use crate::algorithms::{self, Algorithm, AlgorithmError, RoundContext, Statistics};
use crate::checkpoint::{KeptPublication, LearnerState};
use crate::episodes::EpisodeWindow;
use crate::experience::rollout::CompleteRound;
use crate::leases::ShardPosition;
use crate::logs::Distributions;
use crate::metrics;
use crate::progress::{SolvedAt, StageClock};
use crate::run::{RunSettings, RunSpecification};

/// A run between two rounds.
pub(crate) struct Training {
    specification: RunSpecification,
    algorithm: Box<dyn Algorithm>,
    /// Rounds consumed: the next round's number.
    pub(crate) round: u64,
    /// Environment steps consumed.
    pub(crate) env_steps: u64,
    /// Statistics of training episodes.
    pub(crate) episodes: EpisodeWindow,
    /// Consumed unrolls whose environments had been reset before them.
    pub(crate) discontinuities: u64,
    /// Why the last of them had been, of those that this process has consumed.
    pub(crate) last_discontinuity: Option<String>,
    /// When the threshold was first reached.
    pub(crate) solved_at: Option<SolvedAt>,
    /// The best mean training return so far.
    pub(crate) best_mean_return: Option<f64>,
    positions: Vec<ShardPosition>,
    observation_moments: Option<RunningMoments>,
    observation_clip: f64,
    reward_scaler: Option<RewardScaler>,
    schedule: Schedule,
    /// Kept versions, oldest first.
    pub(crate) publications: VecDeque<KeptPublication>,
    /// Seconds before this process.
    earlier_seconds: f64,
    since: Instant,
}

impl Training {
    /// The start of a run.
    ///
    /// # Errors
    /// Where configuration and environment make no algorithm.
    pub(crate) fn begin(
        configuration: &Configuration,
        settings: &RunSettings,
        specification: RunSpecification,
        device: Device,
    ) -> Result<Self, AlgorithmError> {
        let algorithm = algorithms::build(configuration, &specification, device)?;
        let normalisation = &configuration.normalisation;
        let width = specification.contract.shape.observation_width;
        let mut training = Self {
            specification,
            algorithm,
            round: 0,
            env_steps: 0,
            episodes: EpisodeWindow::default(),
            discontinuities: 0,
            last_discontinuity: None,
            solved_at: None,
            best_mean_return: None,
            positions: vec![ShardPosition::default(); settings.num_shards()],
            observation_moments: normalisation
                .observations
                .then(|| RunningMoments::new(width)),
            observation_clip: normalisation.observation_clip,
            reward_scaler: normalisation.rewards.then(|| {
                RewardScaler::new(
                    settings.num_envs,
                    configuration.discount(),
                    normalisation.reward_clip,
                )
            }),
            schedule: settings.schedule,
            publications: VecDeque::new(),
            earlier_seconds: 0.0,
            since: Instant::now(),
        };
        training.keep_publication();
        Ok(training)
    }

    /// Goes on from a checkpoint.
    ///
    /// # Errors
    /// Where the checkpoint is another algorithm's or another network's.
    pub(crate) fn restore(
        configuration: &Configuration,
        settings: &RunSettings,
        specification: RunSpecification,
        state: LearnerState,
        device: Device,
    ) -> Result<Self, AlgorithmError> {
        let mut algorithm = algorithms::build(configuration, &specification, device)?;
        algorithm.restore(&state.algorithm)?;
        Ok(Self {
            specification,
            algorithm,
            round: state.round,
            env_steps: state.env_steps,
            episodes: state.episodes,
            discontinuities: state.discontinuities,
            last_discontinuity: None,
            solved_at: state.solved_at,
            best_mean_return: state.best_mean_return,
            positions: state.positions,
            observation_moments: state.observation_moments,
            observation_clip: configuration.normalisation.observation_clip,
            reward_scaler: state.reward_scaler,
            schedule: settings.schedule,
            publications: state.publications.into(),
            earlier_seconds: state.wall_seconds,
            since: Instant::now(),
        })
    }

    /// Everything that one round changes, in an order that makes the result a function of the round
    /// alone. The new version is the last of [`Training::publications`]; what `distributions` take changes
    /// nothing.
    ///
    /// # Errors
    /// Where the algorithm refuses the round.
    pub(crate) fn consume(
        &mut self,
        round: &CompleteRound,
        progress: f64,
        clock: &mut StageClock,
        distributions: &mut Distributions,
    ) -> Result<Statistics, AlgorithmError> {
        let shape = self.specification.contract.shape;
        metrics::record_round(round, self.round);
        self.note_discontinuities(round);
        round.describe(&shape, distributions);
        let version = self.version_of_the_normaliser();
        let normalised_by = self
            .publications
            .iter()
            .find(|kept| kept.version == version);
        let context = RoundContext {
            shape,
            index: self.round,
            env_steps: self.env_steps,
            progress,
            normaliser: normalised_by.and_then(|kept| kept.normaliser.as_ref()),
            reward_scaler: self.reward_scaler.as_mut(),
            clock,
            distributions,
        };
        let statistics = self.algorithm.learn(round, context)?;

        self.round += 1;
        self.env_steps += (round.unrolls.len() * shape.num_steps()) as u64;
        for unroll in &round.unrolls {
            self.positions[unroll.key.shard.0 as usize] = ShardPosition {
                next_index: UnrollIndex(unroll.key.index.0 + 1),
                state: unroll.state_after.clone(),
            };
        }
        if let Some(moments) = &mut self.observation_moments {
            round.observe(&shape, moments);
        }
        self.keep_publication();
        Ok(statistics)
    }

    /// The version by whose statistics the round's observations are normalised.
    ///
    /// A synchronous round was collected with one version, and the policy that is updated sees what
    /// the one that acted saw. The unrolls of an asynchronous one are of several, and it is the
    /// present policy under the present statistics whose actions V-trace weighs: what the policies
    /// that acted saw is in the probabilities that came with the unrolls.
    fn version_of_the_normaliser(&self) -> u64 {
        match self.schedule {
            Schedule::Synchronous { lag } => scheduled_version(UnrollIndex(self.round), lag),
            Schedule::Asynchronous { .. } => self.round,
        }
    }

    /// Keeps the present version, and as many before it as the next round may need.
    fn keep_publication(&mut self) {
        self.publications.push_back(KeptPublication {
            version: self.round,
            env_steps: self.env_steps,
            parameters: self.algorithm.policy_parameters(),
            normaliser: self.observation_moments.as_ref().map(|moments| {
                let mask_width = self.specification.policy.mask_width();
                ObservationNormaliser::from_moments(moments, self.observation_clip)
                    .sparing_last(mask_width)
            }),
            acting: self.algorithm.acting(self.env_steps),
        });
        while self.publications.len() > self.schedule.lag() as usize + 1 {
            self.publications.pop_front();
        }
    }

    /// Counts what does not continue the round before, and says why.
    fn note_discontinuities(&mut self, round: &CompleteRound) {
        let discontinuous = round.num_discontinuous();
        if discontinuous > 0 && self.discontinuities == 0 {
            tracing::warn!(
                round = self.round,
                discontinuous,
                "elastic determinism is off: environments were reset"
            );
        }
        for (shard, reason) in round.discontinuities() {
            tracing::warn!(
                round = self.round,
                shard = shard.0,
                ?reason,
                "a shard did not continue"
            );
            self.last_discontinuity = Some(reason.to_owned());
        }
        self.discontinuities += discontinuous;
    }

    /// What acts, without its parameters.
    pub(crate) fn policy(&self) -> &PolicySpec {
        &self.specification.policy
    }

    /// Seconds of training, earlier processes included.
    pub(crate) fn seconds(&self) -> f64 {
        self.earlier_seconds + self.since.elapsed().as_secs_f64()
    }

    /// What acts now.
    pub(crate) fn artifact(&self) -> PolicyArtifact {
        let newest = self.publications.back();
        PolicyArtifact {
            spec: self.specification.policy.clone(),
            environment: self.specification.environment.clone(),
            version: self.round,
            env_steps: self.env_steps,
            parameters: newest
                .map(|kept| kept.parameters.clone())
                .unwrap_or_default(),
            normaliser: newest.and_then(|kept| kept.normaliser.clone()),
        }
    }

    /// What a checkpoint holds.
    pub(crate) fn state(&self, run_id: &str) -> LearnerState {
        LearnerState {
            run_id: run_id.to_owned(),
            environment: self.specification.environment.clone(),
            policy: self.specification.policy.clone(),
            round: self.round,
            env_steps: self.env_steps,
            wall_seconds: self.seconds(),
            solved_at: self.solved_at,
            episodes: self.episodes.clone(),
            discontinuities: self.discontinuities,
            best_mean_return: self.best_mean_return,
            positions: self.positions.clone(),
            observation_moments: self.observation_moments.clone(),
            reward_scaler: self.reward_scaler.clone(),
            algorithm: self.algorithm.state(),
            publications: self.publications.iter().cloned().collect(),
        }
    }

    /// Every parameter that is learnt.
    pub(crate) fn parameters(&self) -> Vec<f32> {
        let mut state = self.algorithm.state();
        state
            .arrays
            .remove(algorithms::AlgorithmState::PARAMETERS)
            .unwrap_or_default()
    }
}
