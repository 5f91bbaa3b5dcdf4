//! Says how training goes: one calm line that changes in place on a terminal, a line now and then
//! otherwise. Both go to the standard error, so that the standard output holds results only.

use std::collections::{BTreeMap, VecDeque};
use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use rookery_proto::v1::{Diagnosis, QueueStatus, RunState, StatusReply};

use crate::format;

/// Time between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(2);
/// Seconds of training over which the rate is taken.
const RATE_WINDOW_SECONDS: f64 = 3.0;

/// Shows progress.
#[derive(Debug)]
pub(crate) struct Reporter {
    display: Display,
    rate: Rate,
    is_solved: bool,
    evaluation_return: Option<f64>,
    /// What looked sick at the last look.
    diagnoses: Vec<Diagnosis>,
}

#[derive(Debug)]
enum Display {
    Live(ProgressBar),
    Lines { last: Option<Instant> },
}

impl Reporter {
    /// Shows progress in the way that fits where the standard error goes.
    pub(crate) fn new() -> Self {
        let display = if stderr().is_terminal() {
            let bar = ProgressBar::new(1);
            let style = ProgressStyle::with_template("{bar:24} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            Display::Live(bar)
        } else {
            Display::Lines { last: None }
        };
        Self {
            display,
            rate: Rate::default(),
            is_solved: false,
            evaluation_return: None,
            diagnoses: Vec::new(),
        }
    }

    /// Shows where training stands.
    pub(crate) fn update(&mut self, status: &StatusReply) {
        self.rate.push(status.wall_seconds, status.env_steps);
        for event in self.events(status) {
            self.say(&event);
        }
        let text = line(status, self.rate.per_second());
        match &mut self.display {
            Display::Live(bar) => {
                bar.set_length(status.total_env_steps.max(1));
                bar.set_position(status.env_steps);
                bar.set_message(text);
            }
            Display::Lines { last } => {
                if last.is_none_or(|last| last.elapsed() >= LINE_INTERVAL) {
                    *last = Some(Instant::now());
                    eprintln!("{text}");
                }
            }
        }
    }

    /// Says something that is to stay.
    pub(crate) fn say(&self, text: &str) {
        match &self.display {
            Display::Live(bar) => bar.suspend(|| eprintln!("{text}")),
            Display::Lines { .. } => eprintln!("{text}"),
        }
    }

    /// Takes the live line away: what comes next is the summary.
    pub(crate) fn finish(&self) {
        if let Display::Live(bar) = &self.display {
            bar.finish_and_clear();
        }
    }

    /// What has happened since the last call that is worth a line of its own.
    fn events(&mut self, status: &StatusReply) -> Vec<String> {
        let mut events = Vec::new();
        if let (false, Some(seconds), Some(env_steps)) = (
            self.is_solved,
            status.solved_at_seconds,
            status.solved_at_env_steps,
        ) {
            self.is_solved = true;
            events.push(format!(
                "solved after {} and {} steps",
                format::duration(seconds),
                format::grouped(env_steps)
            ));
        }
        if let Some(evaluation) = status.evaluation_return
            && self.evaluation_return != Some(evaluation)
        {
            self.evaluation_return = Some(evaluation);
            events.push(format!(
                "evaluation return {}",
                format::episode_return(evaluation)
            ));
        }
        let stands = |name: &str, among: &[Diagnosis]| among.iter().any(|one| one.name == name);
        for raised in &status.diagnoses {
            if !stands(&raised.name, &self.diagnoses) {
                events.push(format!("looks sick: {}", diagnosis(raised)));
            }
        }
        for cleared in &self.diagnoses {
            if !stands(&cleared.name, &status.diagnoses) {
                events.push(format!("looks well again: {}", cleared.name));
            }
        }
        self.diagnoses.clone_from(&status.diagnoses);
        events
    }
}

/// One line about what looks sick.
fn diagnosis(diagnosis: &Diagnosis) -> String {
    let Diagnosis {
        name,
        cause,
        remedy,
        ..
    } = diagnosis;
    format!("{name}: {cause}; {remedy}")
}

/// One line about where training stands.
fn line(status: &StatusReply, per_second: Option<f64>) -> String {
    match status.state() {
        RunState::Unspecified | RunState::Waiting => return "waiting for actors".to_owned(),
        RunState::Failed => return format!("failed: {}", status.error),
        RunState::Training | RunState::Paused | RunState::Finished => {}
    }
    let mut parts = vec![
        format!(
            "{} of {} steps",
            format::grouped(status.env_steps),
            format::grouped(status.total_env_steps)
        ),
        format!(
            "{} steps/s",
            per_second.map_or_else(|| "-".to_owned(), format::rate)
        ),
        format!("return {}", format::optional_return(status.mean_return)),
        format::duration(status.wall_seconds),
    ];
    if let Some(queue) = &status.queue {
        parts.insert(3, self::queue(queue, status));
    }
    let remaining = status.total_env_steps.saturating_sub(status.env_steps);
    if status.state() == RunState::Paused {
        parts.push("paused".to_owned());
    } else if let Some(per_second) = per_second.filter(|rate| *rate > 0.0 && remaining > 0) {
        parts.push(format!(
            "{} left",
            format::duration(remaining as f64 / per_second)
        ));
    }
    parts.join("  ")
}

/// What is between the actors and the learner of an asynchronous run.
fn queue(queue: &QueueStatus, status: &StatusReply) -> String {
    let mut text = format!(
        "lag {:.1}, {} at most  queue {} full",
        queue.mean_policy_lag,
        queue.max_policy_lag,
        format::percent(queue.bytes as f64 / queue.max_bytes.max(1) as f64)
    );
    let refused: u64 = status.refused.values().sum();
    if refused > 0 {
        let reasons: BTreeMap<&String, &u64> = status.refused.iter().collect();
        let reasons: Vec<String> = reasons
            .into_iter()
            .map(|(reason, count)| format!("{} {reason}", format::grouped(*count)))
            .collect();
        text = format!("{text}  refused {}", reasons.join(", "));
    }
    text
}

/// Environment steps per second of training, over the last few seconds.
#[derive(Clone, Debug, Default)]
struct Rate {
    samples: VecDeque<(f64, u64)>,
}

impl Rate {
    fn push(&mut self, seconds: f64, env_steps: u64) {
        if self
            .samples
            .back()
            .is_some_and(|(last, _)| *last >= seconds)
        {
            return;
        }
        self.samples.push_back((seconds, env_steps));
        while self.samples.len() > 2
            && self
                .samples
                .front()
                .is_some_and(|(first, _)| seconds - first > RATE_WINDOW_SECONDS)
        {
            self.samples.pop_front();
        }
    }

    fn per_second(&self) -> Option<f64> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        (last.0 > first.0).then(|| last.1.saturating_sub(first.1) as f64 / (last.0 - first.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(seconds: f64, env_steps: u64) -> StatusReply {
        StatusReply {
            state: RunState::Training.into(),
            env_steps,
            total_env_steps: 500_000,
            wall_seconds: seconds,
            mean_return: Some(187.25),
            ..StatusReply::default()
        }
    }

    #[test]
    fn the_line_says_steps_rate_return_and_times() {
        assert_eq!(
            line(&status(3.0, 300_000), Some(100_000.0)),
            "300,000 of 500,000 steps  100,000 steps/s  return 187.2  3.00 s  2.00 s left"
        );
        assert_eq!(line(&StatusReply::default(), None), "waiting for actors");
    }

    #[test]
    fn the_line_of_an_asynchronous_run_says_lag_queue_and_refusals() {
        let mut status = status(3.0, 500_000);
        status.queue = Some(QueueStatus {
            bytes: 6 << 20,
            max_bytes: 8 << 20,
            mean_policy_lag: 1.25,
            max_policy_lag: 4,
        });
        let expected = "500,000 of 500,000 steps  - steps/s  return 187.2  lag 1.2, 4 at most  \
                        queue 75.0 % full";
        assert_eq!(line(&status, None), format!("{expected}  3.00 s"));
        status.refused = [("too_old", 1_200), ("stale", 3)]
            .map(|(reason, count)| (reason.to_owned(), count))
            .into();
        let refused = "refused 3 stale, 1,200 too_old";
        assert_eq!(
            line(&status, None),
            format!("{expected}  {refused}  3.00 s")
        );
    }

    #[test]
    fn the_rate_is_of_the_last_seconds_only() {
        let mut rate = Rate::default();
        rate.push(0.0, 0);
        assert_eq!(rate.per_second(), None);
        for second in 1..=10 {
            rate.push(f64::from(second), 1_000);
        }
        for second in 11..=20_u32 {
            rate.push(f64::from(second), 1_000 + u64::from(second - 10) * 500);
        }
        assert_eq!(rate.per_second(), Some(500.0));
    }

    #[test]
    fn solving_and_evaluations_are_said_once() {
        let mut reporter = Reporter {
            display: Display::Lines { last: None },
            rate: Rate::default(),
            is_solved: false,
            evaluation_return: None,
            diagnoses: Vec::new(),
        };
        let mut status = status(2.0, 200_000);
        assert!(reporter.events(&status).is_empty());
        status.solved_at_seconds = Some(1.5);
        status.solved_at_env_steps = Some(150_000);
        status.evaluation_return = Some(500.0);
        assert_eq!(
            reporter.events(&status),
            [
                "solved after 1.50 s and 150,000 steps",
                "evaluation return 500.0"
            ]
        );
        assert!(reporter.events(&status).is_empty());
    }

    #[test]
    fn what_looks_sick_is_said_once_and_so_is_its_end() {
        let mut reporter = Reporter {
            display: Display::Lines { last: None },
            rate: Rate::default(),
            is_solved: false,
            evaluation_return: None,
            diagnoses: Vec::new(),
        };
        let mut status = status(2.0, 200_000);
        status.diagnoses = vec![Diagnosis {
            name: "policy_jumps".to_owned(),
            cause: "approx_kl is 0.3 nats".to_owned(),
            remedy: "lower ppo.learning_rate (now 0.1)".to_owned(),
            since_env_steps: 10_000,
        }];
        let expected =
            "looks sick: policy_jumps: approx_kl is 0.3 nats; lower ppo.learning_rate (now 0.1)";
        assert_eq!(reporter.events(&status), [expected]);
        assert!(reporter.events(&status).is_empty());
        status.diagnoses.clear();
        assert_eq!(reporter.events(&status), ["looks well again: policy_jumps"]);
        assert!(reporter.events(&status).is_empty());
    }
}
