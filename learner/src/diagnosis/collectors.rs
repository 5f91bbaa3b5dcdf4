//! What collector threads spend their time on, as actors report it.

use std::collections::HashMap;
use std::ops::AddAssign;

/// Nobody has collected for longer: thirty thousand years.
const MAX_SECONDS: f64 = 1e12;

/// Seconds of collector threads by stage.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CollectorSeconds {
    /// Stepping environments.
    pub environment: f64,
    /// Choosing actions.
    pub forward: f64,
    /// Waiting for room on the way to the learner.
    pub send: f64,
    /// Waiting for parameters, a lease or an answer.
    pub wait: f64,
}

impl CollectorSeconds {
    /// Reads what an actor says by the stages' names. A stage that it does not know or says nonsense of
    /// counts as zero: what comes of it is advice, and an actor that lies spoils no more than that.
    #[must_use]
    pub fn reported(seconds: &HashMap<String, f64>) -> Self {
        let of = |stage: &str| {
            let seconds = seconds.get(stage).copied();
            seconds
                .filter(|seconds| (0.0..MAX_SECONDS).contains(seconds))
                .unwrap_or(0.0)
        };
        Self {
            environment: of("environment"),
            forward: of("forward"),
            send: of("send"),
            wait: of("wait"),
        }
    }

    /// What has been added since `earlier`, stage by stage; nothing where that was more.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let since = |now: f64, before: f64| (now - before).max(0.0);
        Self {
            environment: since(self.environment, earlier.environment),
            forward: since(self.forward, earlier.forward),
            send: since(self.send, earlier.send),
            wait: since(self.wait, earlier.wait),
        }
    }

    /// All stages together.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.environment + self.forward + self.send + self.wait
    }

    /// Each stage by its name.
    #[must_use]
    pub fn by_name(&self) -> [(&'static str, f64); 4] {
        [
            ("environment", self.environment),
            ("forward", self.forward),
            ("send", self.send),
            ("wait", self.wait),
        ]
    }
}

impl AddAssign for CollectorSeconds {
    fn add_assign(&mut self, other: Self) {
        self.environment += other.environment;
        self.forward += other.forward;
        self.send += other.send;
        self.wait += other.wait;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_and_stages_that_nobody_knows_count_as_nothing() {
        let reported = [
            ("environment", 1.5),
            ("forward", f64::NAN),
            ("send", -1.0),
            ("dreams", 3.0),
        ];
        let reported = reported.map(|(stage, seconds)| (stage.to_owned(), seconds));
        let seconds = CollectorSeconds::reported(&reported.into());
        let expected = CollectorSeconds {
            environment: 1.5,
            ..CollectorSeconds::default()
        };
        assert_eq!(seconds, expected);
        assert_eq!(seconds.sum(), 1.5);
        assert_eq!(CollectorSeconds::reported(&HashMap::new()).sum(), 0.0);
    }
}
