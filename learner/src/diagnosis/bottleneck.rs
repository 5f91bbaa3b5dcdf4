//! What limits a run now: a pure function of what both sides have spent their time on, and a state
//! machine that says so without flapping.

use std::collections::VecDeque;

use rookery_common::configuration::Schedule;
use serde::Serialize;

use super::advice::advice;
use super::collectors::CollectorSeconds;
use crate::progress::{Stage, StageSeconds};

/// Seconds over which both sides are looked at, once that long a time has passed.
pub const WINDOW_SECONDS: f64 = 20.0;
/// Seconds before the first verdict.
const FIRST_SECONDS: f64 = 1.0;
/// Seconds for which another stage must be ahead before the verdict changes, and for which the first
/// verdict must stand before it is worth a line in the log.
const SETTLE_SECONDS: f64 = 5.0;

/// What can limit a run, in the order of the data's route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Collectors step environments.
    Environment,
    /// Collectors choose actions.
    Forward,
    /// Neither side works: unrolls and parameters are on their way, or one collector is late.
    Wire,
    /// Neither side works: actors wait for room in the learner's queue.
    Queue,
    /// The learner orders, stores and samples.
    Batch,
    /// The learner brings batches to its device.
    Copy,
    /// The learner takes gradient steps.
    Update,
    /// The learner encodes parameters, keeps its books and snapshots its state.
    Publish,
}

impl Limit {
    /// Everything that can limit a run.
    pub const ALL: [Self; 8] = [
        Self::Environment,
        Self::Forward,
        Self::Wire,
        Self::Queue,
        Self::Batch,
        Self::Copy,
        Self::Update,
        Self::Publish,
    ];

    /// Its name in metrics and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Forward => "forward",
            Self::Wire => "wire",
            Self::Queue => "queue",
            Self::Batch => "batch",
            Self::Copy => "copy",
            Self::Update => "update",
            Self::Publish => "publish",
        }
    }
}

/// What limits a run, and what to do about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The stage.
    pub stage: Limit,
    /// How busy it is, 0 to 1: the share of its side's time that it takes; of `wire` and `queue` the share
    /// of all time in which neither side works.
    pub busy_ratio: f64,
    /// One sentence.
    pub advice: String,
    /// How many actors like those of now would do; none where that cannot be said.
    pub suggested_actors: Option<u32>,
}

/// What is the same for the whole run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunShape {
    /// How collecting and learning interleave.
    pub schedule: Schedule,
    /// Shards: no more collector threads have work.
    pub shards: usize,
}

impl RunShape {
    /// Whether the two sides take turns, so that whatever one does the other waits for.
    #[must_use]
    pub fn takes_turns(&self) -> bool {
        matches!(self.schedule, Schedule::Synchronous { lag: 0 })
    }
}

/// Where the clocks of both sides stand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Seconds of wall clock since any moment.
    pub at: f64,
    /// Of the compute thread, by stage.
    pub learner: StageSeconds,
    /// Of all collector threads that ever came.
    pub collectors: CollectorSeconds,
    /// Seconds that unrolls have waited for room in the queue.
    pub queue_wait: f64,
    /// Actors that are here.
    pub actors: usize,
    /// Their collector threads.
    pub threads: usize,
}

/// How the time between two samples was spent, each a share from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shares {
    /// Of the compute thread's time, by stage.
    learner: StageSeconds,
    /// Of the compute thread's time: all but waiting.
    pub(super) learner_busy: f64,
    /// Of the time of collectors that have a shard.
    environment: f64,
    /// Of the time of collectors that have a shard.
    forward: f64,
    /// Whether any actor has said what it does.
    are_collectors_known: bool,
    /// Of all actors' time, in the queue.
    queue: f64,
}

impl Shares {
    fn between(before: &Sample, after: &Sample, run: &RunShape) -> Option<Self> {
        let mut learner = [0.0; Stage::ALL.len()];
        for (share, (now, then)) in learner
            .iter_mut()
            .zip(after.learner.iter().zip(&before.learner))
        {
            *share = (now - then).max(0.0);
        }
        let total: f64 = learner.iter().sum();
        let seconds = after.at - before.at;
        if total <= 0.0 || seconds <= 0.0 || after.actors == 0 {
            return None;
        }
        let learner = learner.map(|time| time / total);
        let collectors = after.collectors.since(&before.collectors);
        // Threads beyond the shards have nothing to do, and their waiting means nothing.
        let working = after.threads.min(run.shards).max(1) as f64;
        let idle_threads = (after.threads as f64 / working).max(1.0);
        let share =
            |time: f64| (time / collectors.sum().max(f64::MIN_POSITIVE) * idle_threads).min(1.0);
        Some(Self {
            learner,
            learner_busy: 1.0 - learner[Stage::Wait as usize],
            environment: share(collectors.environment),
            forward: share(collectors.forward),
            are_collectors_known: collectors.sum() > 0.0,
            queue: ((after.queue_wait - before.queue_wait) / (seconds * after.actors as f64))
                .clamp(0.0, 1.0),
        })
    }

    pub(super) fn collectors_busy(&self) -> f64 {
        (self.environment + self.forward).min(1.0)
    }

    /// The busiest stage of the learner and its share.
    fn learner_stage(&self) -> (Limit, f64) {
        let of = |stage: Stage| self.learner[stage as usize];
        busiest([
            (Limit::Batch, of(Stage::Batch)),
            (Limit::Copy, of(Stage::Copy)),
            (Limit::Update, of(Stage::Update)),
            (
                Limit::Publish,
                of(Stage::Publish) + of(Stage::Record) + of(Stage::Checkpoint),
            ),
        ])
    }
}

/// What limited the run between two samples; `None` where that cannot be said: nobody collects, or the
/// learner waits and no actor says what it does meanwhile, as those of older releases.
///
/// # The formula
/// Let `L` be the share of the compute thread's time in which it does not wait, and `C` the share of the
/// collectors' time in which they step environments or choose actions, of as many threads as there are
/// shards. Where the two sides take turns (a synchronous run at lag 0) the time in which neither works is
/// `I = 1 - L - C`, otherwise, where they overlap, it is that in which even the busier one does not:
/// `I = 1 - max(L, C)`. The largest of the three decides:
/// - `C`: `environment` or `forward`, whichever takes longer;
/// - `L`: `batch`, `copy`, `update` or `publish`, whichever takes longest. Books and snapshots for
///   checkpoints count as `publish`;
/// - `I`: `queue` where unrolls of an asynchronous run waited for room for more than half of that time,
///   else `wire`.
///
/// With `n` actors, `n * C / L` of the same kind collect as fast as the learner learns: where the sides
/// overlap, neither waits then; where they take turns, each waits half of the time, and what more actors
/// could still save is less than that. It is rounded up, and no more than have a shard for each thread. A
/// run that takes turns would be slower with fewer actors than it has, whatever the learner does, and so
/// is told of none.
#[must_use]
pub fn verdict(before: &Sample, after: &Sample, run: &RunShape) -> Option<Verdict> {
    let shares = Shares::between(before, after, run)?;
    let learner_busy = shares.learner_busy;
    let collectors_busy = shares.collectors_busy();
    let (stage, busy_ratio) = if shares.are_collectors_known {
        let neither = if run.takes_turns() {
            (1.0 - learner_busy - collectors_busy).max(0.0)
        } else {
            1.0 - learner_busy.max(collectors_busy)
        };
        if neither > learner_busy && neither > collectors_busy {
            let limit = if shares.queue > 0.5 * neither {
                Limit::Queue
            } else {
                Limit::Wire
            };
            (limit, neither)
        } else if collectors_busy >= learner_busy {
            busiest([
                (Limit::Environment, shares.environment),
                (Limit::Forward, shares.forward),
            ])
        } else {
            shares.learner_stage()
        }
    } else if learner_busy >= 0.5 {
        shares.learner_stage()
    } else {
        return None;
    };
    let suggested = match stage {
        Limit::Wire | Limit::Queue => None,
        _ if shares.are_collectors_known => Some(suggested_actors(&shares, after, run)),
        _ => None,
    };
    Some(Verdict {
        stage,
        busy_ratio,
        advice: advice(stage, busy_ratio, suggested, after, run),
        suggested_actors: suggested,
    })
}

/// See [`verdict`].
fn suggested_actors(shares: &Shares, now: &Sample, run: &RunShape) -> u32 {
    // An actor more or less is within what two windows differ by.
    const TOLERANCE: f64 = 0.1;
    let actors = now.actors as f64;
    let wanted = actors * shares.collectors_busy() / shares.learner_busy.max(1e-6);
    let wanted = if run.takes_turns() {
        wanted.max(actors)
    } else {
        wanted
    };
    let wanted = (wanted - TOLERANCE).ceil().max(1.0);
    wanted.min(most_actors(now, run) as f64) as u32
}

/// Actors of as many threads as those of now that have a shard for each thread.
pub(super) fn most_actors(now: &Sample, run: &RunShape) -> usize {
    let threads = now.threads.div_ceil(now.actors.max(1)).max(1);
    run.shards.div_ceil(threads).max(1)
}

/// The one that takes the largest share.
fn busiest<const N: usize>(stages: [(Limit, f64); N]) -> (Limit, f64) {
    let mut first = stages[0];
    for other in stages {
        if other.1 > first.1 {
            first = other;
        }
    }
    first
}

/// Keeps the window and the verdict that is shown.
#[derive(Debug)]
pub struct BottleneckWatch {
    run: RunShape,
    window: VecDeque<Sample>,
    shown: Option<Verdict>,
    /// Since when the shown verdict's stage stands, and whether that has been said.
    since: f64,
    is_said: bool,
    /// Another stage that has been ahead ever since.
    challenger: Option<(Limit, f64)>,
}

impl BottleneckWatch {
    /// Starts without a verdict.
    #[must_use]
    pub fn new(run: RunShape) -> Self {
        Self {
            run,
            window: VecDeque::new(),
            shown: None,
            since: 0.0,
            is_said: false,
            challenger: None,
        }
    }

    /// The verdict of now.
    #[must_use]
    pub fn verdict(&self) -> Option<&Verdict> {
        self.shown.as_ref()
    }

    /// Forgets what came before, as after a pause.
    pub fn restart(&mut self) {
        *self = Self::new(self.run);
    }

    /// Takes a sample. Returns the verdict where its stage is new and has stood for a while: what is worth
    /// a line in the log.
    pub fn observe(&mut self, sample: Sample) -> Option<&Verdict> {
        if sample.actors == 0 {
            self.restart();
            return None;
        }
        self.window.push_back(sample);
        // The front is the newest sample that is a whole window old, where there is one.
        while self
            .window
            .get(1)
            .is_some_and(|second| sample.at - second.at >= WINDOW_SECONDS)
        {
            self.window.pop_front();
        }
        let first = self.window.front()?;
        if sample.at - first.at < FIRST_SECONDS {
            return None;
        }
        let Some(verdict) = verdict(first, &sample, &self.run) else {
            (self.shown, self.challenger) = (None, None);
            return None;
        };
        let is_new = match &self.shown {
            None => true,
            Some(shown) if shown.stage == verdict.stage => {
                self.challenger = None;
                false
            }
            Some(_) => {
                let (stage, since) = self.challenger.unwrap_or((verdict.stage, sample.at));
                let since = if stage == verdict.stage {
                    since
                } else {
                    sample.at
                };
                self.challenger = Some((verdict.stage, since));
                if sample.at - since < SETTLE_SECONDS {
                    return None;
                }
                true
            }
        };
        if is_new {
            // A challenger has stood for as long as it takes already.
            let stood_since = self.challenger.take().map_or(sample.at, |(_, since)| since);
            (self.since, self.is_said) = (stood_since, false);
        }
        self.shown = Some(verdict);
        if self.is_said || sample.at - self.since < SETTLE_SECONDS {
            return None;
        }
        self.is_said = true;
        self.shown.as_ref()
    }
}

#[cfg(test)]
mod tests;
