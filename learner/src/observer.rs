//! Who tells people what the [diagnosis](crate::diagnosis) finds: log, metrics and the run's progress.

use std::time::{Duration, Instant};

use rookery_common::configuration::Configuration;

use crate::algorithms::Statistics;
use crate::diagnosis::{
    BottleneckWatch, Change, Clocks, Diagnosis, Diagnostics, Moment, Observed, Rule, RunShape,
    Sample, Verdict,
};
use crate::experience::rollout::CompleteRound;
use crate::metrics;
use crate::progress::{Progress, StageClock};
use crate::run::{Run, RunSettings};
use crate::training::Training;

/// Time between two looks at what limits the run.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(500);

/// Watches one run from its compute thread.
#[derive(Debug)]
pub(crate) struct Observer {
    diagnostics: Diagnostics,
    bottleneck: BottleneckWatch,
    began: Instant,
    sampled: Option<Instant>,
}

impl Observer {
    /// Starts with a run that looks well.
    pub(crate) fn new(configuration: &Configuration, settings: &RunSettings) -> Self {
        let shape = RunShape {
            schedule: settings.schedule,
            shards: settings.num_shards(),
        };
        Self {
            diagnostics: Diagnostics::new(configuration),
            bottleneck: BottleneckWatch::new(shape),
            began: Instant::now(),
            sampled: None,
        }
    }

    /// Looks at what an update did; `share` of the run is done.
    pub(crate) fn updated(
        &mut self,
        run: &Run,
        training: &Training,
        (round, statistics): (&CompleteRound, &Statistics),
        share: f64,
        clock: &StageClock,
    ) {
        let (collectors, size) = {
            let fleet = run.fleet();
            (fleet.collected(), fleet.size())
        };
        let learner = clock.totals();
        let changes = self.diagnostics.observe(&Observed {
            statistics,
            policy: training.policy(),
            moment: Moment {
                update: training.round,
                env_steps: training.env_steps,
                share,
                seconds: training.seconds(),
            },
            mean_return: training.episodes.mean_return(),
            is_solved: training.solved_at.is_some(),
            largest_reward: largest_reward(round),
            clocks: Clocks {
                learner,
                collectors,
                threads: size.threads,
            },
        });
        for change in &changes {
            say(change, training.env_steps);
        }

        let now = Instant::now();
        if self
            .sampled
            .is_some_and(|sampled| now - sampled < SAMPLE_INTERVAL)
        {
            return;
        }
        self.sampled = Some(now);
        let news = self.bottleneck.observe(Sample {
            at: (now - self.began).as_secs_f64(),
            learner,
            collectors,
            queue_wait: run.queue.waited().as_secs_f64(),
            actors: size.collectors,
            threads: size.threads,
        });
        if let Some(verdict) = news {
            tracing::info!(
                stage = verdict.stage.name(),
                busy_ratio = (1e3 * verdict.busy_ratio).round() / 1e3,
                suggested_actors = verdict.suggested_actors,
                advice = verdict.advice,
                "what limits the run"
            );
        }
        metrics::set_bottleneck(self.bottleneck.verdict(), size.collectors);
    }

    /// Forgets the clocks: the run was paused.
    pub(crate) fn interrupt(&mut self) {
        self.diagnostics.interrupt();
        self.bottleneck.restart();
        self.sampled = None;
    }

    /// What helps against gradients that are not finite.
    pub(crate) fn remedy_of_gradients(&self) -> String {
        self.diagnostics.remedy(Rule::GradientsNotFinite)
    }

    /// What looks sick now.
    pub(crate) fn diagnoses(&self) -> Vec<Diagnosis> {
        self.diagnostics.raised().to_vec()
    }

    /// What limits the run now.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        self.bottleneck.verdict().cloned()
    }

    /// Puts both where everybody sees them.
    pub(crate) fn show(&self, progress: &mut Progress) {
        progress.bottleneck = self.verdict();
        progress.diagnoses = self.diagnoses();
    }
}

fn say(change: &Change, env_steps: u64) {
    match change {
        Change::Raised(diagnosis) => {
            metrics::set_diagnosis(diagnosis.rule, true);
            tracing::warn!(
                rule = diagnosis.rule.name(),
                env_steps,
                cause = diagnosis.cause,
                remedy = diagnosis.remedy,
                "the run looks sick"
            );
        }
        Change::Cleared(diagnosis) => {
            metrics::set_diagnosis(diagnosis.rule, false);
            tracing::info!(
                rule = diagnosis.rule.name(),
                env_steps,
                since_env_steps = diagnosis.since_env_steps,
                "the run looks well again"
            );
        }
    }
}

/// The size of the largest reward of a round.
fn largest_reward(round: &CompleteRound) -> f64 {
    let rewards = round.unrolls.iter().flat_map(|unroll| unroll.reward.iter());
    f64::from(rewards.fold(0.0_f32, |largest, reward: f32| largest.max(reward.abs())))
}
