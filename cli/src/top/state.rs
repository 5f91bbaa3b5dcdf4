//! What the dashboard knows of a run: what was heard last, and what has become of it over time.

use std::collections::{BTreeMap, VecDeque};

use rookery_proto::v1::{RunState, StatusReply};

use super::watch::News;
use crate::metrics_file::Record;
use crate::run_directory::{LearnerSummary, Outcome};

/// Seconds of training over which throughput and stages are taken.
const WINDOW_SECONDS: f64 = 10.0;
/// Rates that are kept: more than a terminal has columns.
const MAX_RATES: usize = 512;
/// Points of a curve beyond which every second one is dropped.
const MAX_POINTS: usize = 4096;
/// The learner's stages in the order of a round; others come after them.
const LEARNER_STAGES: [&str; 7] = [
    "wait",
    "batch",
    "copy",
    "update",
    "publish",
    "record",
    "checkpoint",
];
/// The collectors' stages in the order of a step.
const ACTOR_STAGES: [&str; 4] = ["environment", "forward", "send", "wait"];

/// Whether the learner answers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Link {
    /// Nobody has been asked yet.
    Connecting,
    /// The newest status is of now.
    Live,
    /// It does not: what is shown is old.
    Lost {
        /// For how long.
        seconds: f64,
        /// What the last attempt met.
        reason: String,
    },
    /// The run has ended, and no learner is expected to answer.
    Ended(Outcome),
}

/// All that is shown.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// What was named: a run directory or an address.
    pub(super) name: String,
    /// What is trained, where the run directory says so.
    pub(super) subject: Option<String>,
    /// Return from which the environment counts as solved.
    pub(super) threshold: Option<f64>,
    /// Whether the figures are of now.
    pub(super) link: Link,
    /// The newest status that was heard.
    pub(super) status: Option<StatusReply>,
    /// How the run ended.
    pub(super) summary: Option<LearnerSummary>,
    /// Mean training return over environment steps.
    pub(super) returns: Series,
    /// Mean return of evaluations over environment steps.
    pub(super) evaluations: Series,
    /// Environment steps per second of training, the newest last.
    pub(super) rates: VecDeque<f64>,
    /// What the user is asked, where something is about to be done.
    pub(super) question: Option<&'static str>,
    /// Whether curves come from the run directory, and not from what is heard.
    has_records: bool,
    samples: VecDeque<StatusReply>,
    /// Steps over seconds, from the run directory.
    pace: Series,
}

/// A curve of points with ascending `x`, thinned out where there are many.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Series {
    points: Vec<(f64, f64)>,
}

impl Series {
    /// The points.
    pub(super) fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    /// The newest value.
    pub(super) fn last(&self) -> Option<f64> {
        self.points.last().map(|(_, y)| *y)
    }

    fn push(&mut self, x: f64, y: f64) {
        // A resumed run does again what came after its checkpoint.
        while self.points.last().is_some_and(|(last, _)| *last >= x) {
            self.points.pop();
        }
        self.points.push((x, y));
        if self.points.len() > MAX_POINTS {
            let mut index = 0;
            self.points.retain(|_| {
                index += 1;
                index % 2 == 1
            });
        }
    }

    fn clear(&mut self) {
        self.points.clear();
    }
}

/// What one stage takes of all stages' time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Share {
    /// The stage.
    pub(super) stage: String,
    /// From 0 to 1.
    pub(super) ratio: f64,
}

impl View {
    /// One that knows nothing yet.
    pub(super) fn new(name: String, subject: Option<String>, threshold: Option<f64>) -> Self {
        Self {
            name,
            subject,
            threshold,
            link: Link::Connecting,
            status: None,
            summary: None,
            returns: Series::default(),
            evaluations: Series::default(),
            rates: VecDeque::new(),
            question: None,
            has_records: false,
            samples: VecDeque::new(),
            pace: Series::default(),
        }
    }

    /// Takes in what was heard, `seconds` after the time before.
    pub(super) fn hear(&mut self, news: News, seconds: f64) {
        if news.metrics.is_anew {
            self.returns.clear();
            self.evaluations.clear();
            self.pace.clear();
        }
        self.has_records |= !news.metrics.records.is_empty();
        for record in &news.metrics.records {
            self.note(record);
        }
        match news.status {
            Ok(status) => {
                self.link = Link::Live;
                self.summary = None;
                self.sample(status);
            }
            Err(reason) => {
                let silent = match &self.link {
                    Link::Lost { seconds, .. } => *seconds,
                    Link::Connecting | Link::Live | Link::Ended(_) => 0.0,
                };
                self.summary = news.summary;
                self.link = match &self.summary {
                    Some(summary) => Link::Ended(summary.outcome),
                    None => Link::Lost {
                        seconds: silent + seconds,
                        reason,
                    },
                };
            }
        }
    }

    fn note(&mut self, record: &Record) {
        let steps = record.env_steps as f64;
        if let Some(seconds) = record.seconds {
            self.pace.push(seconds, steps);
        }
        if let Some(value) = record.number("mean_return") {
            self.returns.push(steps, value);
        }
        if let Some(value) = record.number("evaluation_return") {
            self.evaluations.push(steps, value);
        }
    }

    fn sample(&mut self, status: StatusReply) {
        if !self.has_records {
            let steps = status.env_steps as f64;
            if let Some(value) = status.mean_return {
                self.returns.push(steps, value);
            }
            if let Some(value) = status.evaluation_return
                && self.evaluations.last() != Some(value)
            {
                self.evaluations.push(steps, value);
            }
        }
        let is_same_process = |last: &StatusReply| {
            last.run_id == status.run_id
                && last.version.map(|version| version.learner_epoch)
                    == status.version.map(|version| version.learner_epoch)
        };
        if !self.samples.back().is_none_or(is_same_process) {
            self.samples.clear();
        }
        self.samples.push_back(status.clone());
        let newest = status.wall_seconds;
        while self.samples.len() > 2
            && self
                .samples
                .get(1)
                .is_some_and(|second| newest - second.wall_seconds > WINDOW_SECONDS)
        {
            self.samples.pop_front();
        }
        self.status = Some(status);
        if let Some(rate) = self.rate_of_last_look() {
            self.rates.push_back(rate);
            if self.rates.len() > MAX_RATES {
                self.rates.pop_front();
            }
        }
    }

    /// Environment steps per second between the last two looks.
    fn rate_of_last_look(&self) -> Option<f64> {
        let before = self.samples.iter().rev().nth(1)?;
        rate(before, self.samples.back()?)
    }

    /// Environment steps per second of training: now, or of all of a run that has ended.
    pub(super) fn steps_per_second(&self) -> Option<f64> {
        if let Some(summary) = &self.summary {
            return Some(summary.env_steps as f64 / summary.wall_seconds)
                .filter(|rate| rate.is_finite());
        }
        let newest = self.samples.back()?;
        if self.samples.len() > 1 {
            return rate(self.samples.front()?, newest);
        }
        Some(newest.env_steps as f64 / newest.wall_seconds).filter(|rate| rate.is_finite())
    }

    /// Rates for a curve of `width` columns: what was seen, or what the run directory says where nothing
    /// was.
    pub(super) fn rate_curve(&self, width: usize) -> Vec<f64> {
        if self.rates.len() > 1 || self.summary.is_none() {
            let skipped = self.rates.len().saturating_sub(width);
            return self.rates.iter().skip(skipped).copied().collect();
        }
        let points = self.pace.points();
        let (Some((first, _)), Some((last, _))) = (points.first(), points.last()) else {
            return Vec::new();
        };
        let step = (last - first) / width.max(1) as f64;
        let steps_at = |seconds: f64| {
            let after = points.partition_point(|(x, _)| *x <= seconds);
            points[after.saturating_sub(1)].1
        };
        let edges: Vec<f64> = (0..=width)
            .map(|edge| steps_at(first + step * edge as f64))
            .collect();
        let rates = edges.windows(2).map(|pair| (pair[1] - pair[0]) / step);
        rates.filter(|rate| rate.is_finite()).collect()
    }

    /// Seconds until all steps are done at the rate of now.
    pub(super) fn seconds_left(&self) -> Option<f64> {
        let status = self.status.as_ref()?;
        let rate = self.steps_per_second().filter(|rate| *rate > 0.0)?;
        let left = status.total_env_steps.saturating_sub(status.env_steps);
        (status.state() == RunState::Training && left > 0).then(|| left as f64 / rate)
    }

    /// What the learner's compute thread spends its time on, over the last seconds.
    pub(super) fn learner_stages(&self) -> Vec<Share> {
        self.shares(&LEARNER_STAGES, |status| &status.learner_seconds)
    }

    /// What the actors' collector threads spend their time on, over the last seconds.
    pub(super) fn actor_stages(&self) -> Vec<Share> {
        self.shares(&ACTOR_STAGES, |status| &status.actor_seconds)
    }

    fn shares(
        &self,
        order: &[&str],
        seconds: impl Fn(&StatusReply) -> &std::collections::HashMap<String, f64>,
    ) -> Vec<Share> {
        let Some(newest) = self.samples.back() else {
            return Vec::new();
        };
        let oldest = self.samples.front().filter(|_| self.samples.len() > 1);
        let since = |stage: &str| {
            let now = seconds(newest).get(stage).copied().unwrap_or(0.0);
            let before = oldest
                .and_then(|oldest| seconds(oldest).get(stage))
                .copied();
            // An actor that has left takes its seconds along.
            (now - before.unwrap_or(0.0)).max(0.0)
        };
        let spent: BTreeMap<&str, f64> = seconds(newest)
            .keys()
            .map(|stage| (stage.as_str(), since(stage)))
            .collect();
        let total: f64 = spent.values().sum();
        let known = order
            .iter()
            .copied()
            .filter(|stage| spent.contains_key(stage));
        let others = spent.keys().copied().filter(|stage| !order.contains(stage));
        let share = |stage: &str| Share {
            stage: stage.to_owned(),
            ratio: if total > 0.0 {
                spent[stage] / total
            } else {
                0.0
            },
        };
        known.chain(others).map(share).collect()
    }
}

fn rate(before: &StatusReply, after: &StatusReply) -> Option<f64> {
    let seconds = after.wall_seconds - before.wall_seconds;
    (seconds > 0.0).then(|| after.env_steps.saturating_sub(before.env_steps) as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics_file::Reading;
    use rookery_proto::v1::PolicyVersion;

    fn status(seconds: f64, env_steps: u64) -> StatusReply {
        StatusReply {
            state: RunState::Training.into(),
            env_steps,
            total_env_steps: 100_000,
            wall_seconds: seconds,
            version: Some(PolicyVersion {
                learner_epoch: 1,
                version: 3,
            }),
            learner_seconds: [("wait", seconds * 0.25), ("update", seconds * 0.75)]
                .map(|(stage, seconds)| (stage.to_owned(), seconds))
                .into(),
            ..StatusReply::default()
        }
    }

    fn news(status: Result<StatusReply, &str>) -> News {
        News {
            status: status.map_err(str::to_owned),
            metrics: Reading::default(),
            summary: None,
        }
    }

    fn view() -> View {
        View::new("run".to_owned(), None, None)
    }

    #[test]
    fn rate_and_stages_are_of_the_last_seconds() {
        let mut view = view();
        view.hear(news(Ok(status(0.0, 0))), 0.0);
        assert_eq!(view.steps_per_second(), None);
        for second in 1..=20_u32 {
            let steps = if second <= 8 {
                0
            } else {
                u64::from(second - 8) * 1000
            };
            let mut now = status(f64::from(second), steps);
            let waited = f64::from(second.saturating_sub(8));
            now.learner_seconds.insert("wait".to_owned(), waited);
            now.learner_seconds
                .insert("update".to_owned(), 8.0 + waited * 3.0);
            view.hear(news(Ok(now)), 1.0);
        }
        assert_eq!(view.steps_per_second(), Some(1000.0));
        assert_eq!(view.rates.back(), Some(&1000.0));
        assert_eq!(view.seconds_left(), Some(88.0));
        let shares: Vec<_> = view
            .learner_stages()
            .into_iter()
            .map(|share| (share.stage, share.ratio))
            .collect();
        assert_eq!(
            shares,
            [("wait".to_owned(), 0.25), ("update".to_owned(), 0.75)]
        );
        assert_eq!(view.actor_stages(), []);
    }

    #[test]
    fn a_learner_that_is_silent_is_lost_and_found_again() {
        let mut view = view();
        view.hear(news(Ok(status(5.0, 50))), 0.0);
        view.hear(news(Err("refused")), 1.0);
        view.hear(news(Err("refused")), 1.5);
        let lost = Link::Lost {
            seconds: 2.5,
            reason: "refused".to_owned(),
        };
        assert_eq!(view.link, lost);
        assert_eq!(
            view.status.as_ref().map(|status| status.env_steps),
            Some(50),
            "the last is kept"
        );
        // Another process counts from the beginning.
        let mut resumed = status(1.0, 60);
        resumed.version = Some(PolicyVersion {
            learner_epoch: 2,
            version: 4,
        });
        view.hear(news(Ok(resumed)), 1.0);
        assert_eq!(view.link, Link::Live);
        assert_eq!(view.samples.len(), 1);
    }

    #[test]
    fn curves_come_from_the_run_directory_where_there_is_one() {
        let mut view = view();
        let record = |line: &str| serde_json::from_str::<Record>(line).unwrap();
        let mut heard = news(Ok(StatusReply {
            mean_return: Some(99.0),
            ..status(3.0, 300)
        }));
        heard.metrics = Reading {
            is_anew: true,
            records: vec![
                record(r#"{"env_steps":100,"seconds":1.0,"mean_return":5.0}"#),
                record(r#"{"env_steps":300,"seconds":2.0,"mean_return":6.0}"#),
                record(r#"{"env_steps":100,"version":1,"evaluation_return":7.0}"#),
            ],
        };
        view.hear(heard, 0.0);
        assert_eq!(view.returns.points(), [(100.0, 5.0), (300.0, 6.0)]);
        assert_eq!(view.evaluations.points(), [(100.0, 7.0)]);
        view.summary = Some(LearnerSummary {
            outcome: Outcome::Finished,
            env_steps: 300,
            updates: 2,
            wall_seconds: 2.0,
            mean_return: Some(6.0),
            solved_at_seconds: None,
            solved_at_env_steps: None,
            parameters_sha256: String::new(),
            discontinuities: 0,
            last_discontinuity: None,
            bottleneck: None,
            diagnoses: Vec::new(),
        });
        assert_eq!(view.steps_per_second(), Some(150.0));
        assert_eq!(view.rate_curve(1), [200.0]);
    }

    #[test]
    fn long_curves_are_thinned_out() {
        let mut series = Series::default();
        for x in 0..10_000 {
            series.push(f64::from(x), 1.0);
        }
        assert!(series.points().len() <= MAX_POINTS);
        assert_eq!(series.points()[0].0, 0.0);
        assert!(series.points().is_sorted_by(|a, b| a.0 < b.0));
    }
}
