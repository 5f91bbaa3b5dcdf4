//! When something that looks sick is said to be so, and when no more.

/// Where a run stands, in every unit that a rule may wait in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moment {
    /// Updates done.
    pub update: u64,
    /// Environment steps consumed.
    pub env_steps: u64,
    /// Share of the run that is done.
    pub share: f64,
    /// Seconds of training.
    pub seconds: f64,
}

/// For how long something must be seen without a break: for so many updates, and besides for so large a
/// share of the run or for so long a time, whichever comes first. So a run of two seconds and one of a day
/// are judged by the same rules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience {
    /// Updates.
    pub updates: u64,
    /// Share of the run's environment steps.
    pub share: f64,
    /// Seconds of training.
    pub seconds: f64,
}

impl Patience {
    /// None: what is seen once is said.
    pub const NONE: Self = Self {
        updates: 0,
        share: 0.0,
        seconds: 0.0,
    };

    fn is_over(&self, since: &Moment, now: &Moment) -> bool {
        now.update.saturating_sub(since.update) >= self.updates
            && (now.share - since.share >= self.share
                || now.seconds - since.seconds >= self.seconds)
    }
}

/// What a rule sees in one update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// What it is there for.
    Sick,
    /// The contrary.
    Well,
    /// Neither: what stands stays, and whatever has been seen before begins anew.
    Unsure,
}

impl Reading {
    /// [`Reading::Unsure`] where nothing is known.
    pub(super) fn of(is_sick: Option<bool>) -> Self {
        match is_sick {
            Some(true) => Self::Sick,
            Some(false) => Self::Well,
            None => Self::Unsure,
        }
    }
}

/// What has become of a rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Edge {
    /// It is raised; it was first seen then.
    Raised(Moment),
    /// It holds no more.
    Cleared,
}

/// One rule's state.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    raise: Patience,
    clear: Patience,
    is_raised: bool,
    /// Since when the contrary of what is said has been seen without a break.
    streak: Option<Moment>,
}

impl Standing {
    /// Starts well.
    pub(super) fn new(raise: Patience, clear: Patience) -> Self {
        Self {
            raise,
            clear,
            is_raised: false,
            streak: None,
        }
    }

    pub(super) fn observe(&mut self, reading: Reading, now: &Moment) -> Option<Edge> {
        let is_sick = match reading {
            Reading::Sick => true,
            Reading::Well => false,
            Reading::Unsure => self.is_raised,
        };
        if is_sick == self.is_raised {
            self.streak = None;
            return None;
        }
        let since = *self.streak.get_or_insert(*now);
        let patience = if is_sick { self.raise } else { self.clear };
        if !patience.is_over(&since, now) {
            return None;
        }
        self.streak = None;
        self.is_raised = is_sick;
        Some(if is_sick {
            Edge::Raised(since)
        } else {
            Edge::Cleared
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        updates: 20,
        share: 0.05,
        seconds: 300.0,
    };

    /// The `update`-th of a run of `updates` that takes `seconds`.
    fn moment(update: u64, updates: u64, seconds: f64) -> Moment {
        let share = update as f64 / updates as f64;
        Moment {
            update,
            env_steps: 100 * update,
            share,
            seconds: share * seconds,
        }
    }

    /// The first update at which it is raised where everything looks sick from the first on.
    fn raised_at(updates: u64, seconds: f64) -> Option<u64> {
        let mut standing = Standing::new(PATIENCE, PATIENCE);
        (0..updates).find(|update| {
            standing
                .observe(Reading::Sick, &moment(*update, updates, seconds))
                .is_some()
        })
    }

    #[test]
    fn runs_of_seconds_and_of_days_are_judged_in_time() {
        // Two seconds: twenty updates. Ten minutes: a twentieth. A day: five minutes.
        assert_eq!(raised_at(200, 2.0), Some(20));
        assert_eq!(raised_at(10_000, 600.0), Some(500));
        assert_eq!(raised_at(86_400, 86_400.0), Some(300));
        // Updates of an hour each: not before there are some.
        assert_eq!(raised_at(240, 864_000.0), Some(20));
    }

    #[test]
    fn what_is_interrupted_begins_anew_and_what_is_unsure_changes_nothing() {
        let mut standing = Standing::new(PATIENCE, PATIENCE);
        let mut edges = Vec::new();
        let mut see = |reading, updates: std::ops::Range<u64>| {
            for update in updates {
                if let Some(edge) = standing.observe(reading, &moment(update, 200, 2.0)) {
                    edges.push((update, edge));
                }
            }
            edges.clone()
        };
        assert_eq!(see(Reading::Sick, 0..20), []);
        assert_eq!(see(Reading::Unsure, 20..21), []);
        let since = moment(21, 200, 2.0);
        let raised = (41, Edge::Raised(since));
        assert_eq!(see(Reading::Sick, 21..60), [raised]);
        assert_eq!(see(Reading::Unsure, 60..100), [raised]);
        assert_eq!(see(Reading::Well, 100..120), [raised]);
        assert_eq!(see(Reading::Sick, 120..121), [raised]);
        assert_eq!(see(Reading::Well, 121..160), [raised, (141, Edge::Cleared)]);
    }

    #[test]
    fn without_patience_the_first_look_counts() {
        let mut standing = Standing::new(Patience::NONE, PATIENCE);
        let now = moment(3, 200, 2.0);
        assert_eq!(
            standing.observe(Reading::Sick, &now),
            Some(Edge::Raised(now))
        );
    }
}
