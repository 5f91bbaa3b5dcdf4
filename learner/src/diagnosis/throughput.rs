//! Whether training has become slow, and which stage did it.

use std::collections::VecDeque;

use super::collectors::CollectorSeconds;
use super::standing::Moment;
use crate::progress::{Stage, StageSeconds};

/// Seconds of training over which one rate is taken.
const SPAN_SECONDS: f64 = 20.0;
/// Spans that are now: two minutes.
const NOW: usize = 6;
/// Spans before them that it takes to know what is usual: three minutes.
const LEAST_BEFORE: usize = 9;
/// Spans that are remembered: an hour.
const MOST: usize = 180;
/// Share of the usual rate below which it is slow.
pub(super) const SLOW_RATIO: f64 = 0.5;

/// Where the clocks stand.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// Of the compute thread, by stage.
    pub learner: StageSeconds,
    /// Of all collector threads that ever came.
    pub collectors: CollectorSeconds,
    /// Collector threads that are here.
    pub threads: usize,
}

#[derive(Clone, Copy, Debug)]
struct Start {
    moment: Moment,
    clocks: Clocks,
}

/// What one span came to.
#[derive(Clone, Debug)]
struct Span {
    steps_per_second: f64,
    threads: usize,
    /// Seconds of a thread for an environment step, by stage, of the stages that work.
    seconds_per_step: Vec<(&'static str, f64)>,
}

/// The spans of the last hour.
#[derive(Clone, Debug, Default)]
pub(super) struct Throughput {
    start: Option<Start>,
    spans: VecDeque<Span>,
}

/// Training is less than half as fast as usual.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slow {
    pub(super) now: f64,
    pub(super) usual: f64,
    /// The stage that takes more time than it did, with its seconds a step now and then.
    pub(super) stage: Option<(&'static str, f64, f64)>,
}

impl Throughput {
    /// Leaves out the time up to the next update, as that of a pause.
    pub(super) fn interrupt(&mut self) {
        self.start = None;
    }

    pub(super) fn push(&mut self, moment: &Moment, clocks: &Clocks) {
        let now = Start {
            moment: *moment,
            clocks: *clocks,
        };
        let start = *self.start.get_or_insert(now);
        let seconds = moment.seconds - start.moment.seconds;
        if seconds < SPAN_SECONDS {
            return;
        }
        let steps = moment.env_steps.saturating_sub(start.moment.env_steps) as f64;
        self.spans.push_back(Span {
            steps_per_second: steps / seconds,
            threads: start.clocks.threads.min(clocks.threads),
            seconds_per_step: seconds_per_step(&start.clocks, clocks, steps),
        });
        if self.spans.len() > MOST {
            self.spans.pop_front();
        }
        self.start = Some(now);
    }

    /// `None` while too little is known, or fewer threads collect than did: then slower is as it must be.
    pub(super) fn judge(&self) -> Option<Result<(), Slow>> {
        let before = self.spans.len().checked_sub(NOW)?;
        if before < LEAST_BEFORE {
            return None;
        }
        let (before, now): (Vec<&Span>, Vec<&Span>) = (
            self.spans.iter().take(before).collect(),
            self.spans.iter().skip(before).collect(),
        );
        let usual = median(&before, |span| span.steps_per_second);
        let threads = median(&before, |span| span.threads as f64);
        if now.iter().any(|span| (span.threads as f64) < threads) {
            return None;
        }
        let rate = median(&now, |span| span.steps_per_second);
        if rate >= SLOW_RATIO * usual {
            return Some(Ok(()));
        }
        let names = now[0].seconds_per_step.iter().map(|(name, _)| *name);
        let stage = names
            .enumerate()
            .map(|(stage, name)| {
                let of = |spans: &[&Span]| median(spans, |span| span.seconds_per_step[stage].1);
                (name, of(&now), of(&before))
            })
            .filter(|(_, now, then)| now > then)
            .max_by(|one, other| (one.1 - one.2).total_cmp(&(other.1 - other.2)));
        Some(Err(Slow {
            now: rate,
            usual,
            stage,
        }))
    }
}

fn seconds_per_step(before: &Clocks, after: &Clocks, steps: f64) -> Vec<(&'static str, f64)> {
    let collectors = after.collectors.since(&before.collectors);
    let learner = Stage::ALL
        .into_iter()
        .filter(|stage| *stage != Stage::Wait)
        .map(|stage| {
            let index = stage as usize;
            (stage.name(), after.learner[index] - before.learner[index])
        });
    let threads = after.threads.max(1) as f64;
    [
        ("environment", collectors.environment / threads),
        ("forward", collectors.forward / threads),
        ("send", collectors.send / threads),
    ]
    .into_iter()
    .chain(learner)
    .map(|(name, seconds)| (name, seconds.max(0.0) / steps.max(1.0)))
    .collect()
}

fn median(spans: &[&Span], of: impl Fn(&Span) -> f64) -> f64 {
    let mut values: Vec<f64> = spans.iter().map(|span| of(span)).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Run {
        throughput: Throughput,
        moment: Moment,
        clocks: Clocks,
    }

    impl Run {
        fn new() -> Self {
            Self {
                throughput: Throughput::default(),
                moment: Moment::default(),
                clocks: Clocks {
                    learner: Default::default(),
                    collectors: CollectorSeconds::default(),
                    threads: 4,
                },
            }
        }

        /// Goes on for `seconds`, an update of `steps` steps in each, whose environments take `environment`
        /// seconds of all threads.
        fn go_on(&mut self, seconds: u32, steps: u64, environment: f64) {
            for _ in 0..seconds {
                self.moment.update += 1;
                self.moment.seconds += 1.0;
                self.moment.env_steps += steps;
                self.clocks.learner[Stage::Update as usize] += 0.1;
                self.clocks.collectors.environment += environment;
                self.throughput.push(&self.moment, &self.clocks);
            }
        }
    }

    #[test]
    fn training_that_takes_thrice_as_long_is_slow_and_the_stage_is_named() {
        let mut run = Run::new();
        run.go_on(600, 3_000, 2.0);
        assert_eq!(run.throughput.judge(), Some(Ok(())));
        run.go_on(180, 1_000, 3.2);
        let Some(Err(slow)) = run.throughput.judge() else {
            panic!("it is slow");
        };
        assert_eq!((slow.now, slow.usual), (1_000.0, 3_000.0));
        let (stage, now, then) = slow.stage.unwrap();
        assert_eq!(stage, "environment");
        assert!((now - 0.8e-3).abs() < 1e-9 && (then - 0.5 / 3_000.0).abs() < 1e-9);
    }

    #[test]
    fn a_dent_fewer_actors_and_the_first_minutes_are_not_slow() {
        let mut run = Run::new();
        run.go_on(200, 3_000, 2.0);
        assert_eq!(run.throughput.judge(), None);
        run.go_on(400, 3_000, 2.0);
        run.go_on(40, 100, 2.0);
        run.go_on(80, 3_000, 2.0);
        assert_eq!(run.throughput.judge(), Some(Ok(())));
        run.clocks.threads = 1;
        run.go_on(200, 800, 0.5);
        assert_eq!(run.throughput.judge(), None);
    }

    #[test]
    fn a_pause_takes_no_time() {
        let mut run = Run::new();
        run.go_on(600, 3_000, 2.0);
        run.throughput.interrupt();
        run.moment.seconds += 10_000.0;
        run.go_on(200, 3_000, 2.0);
        assert_eq!(run.throughput.judge(), Some(Ok(())));
    }
}
