//! Where every unroll went: `received = trained + queued + duplicate + stale + invalid`, at any
//! moment.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::metrics;

/// A consistent count of unrolls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UnrollCounts {
    /// Messages that claimed to be an unroll.
    pub received: u64,
    /// Consumed by an update.
    pub trained: u64,
    /// Admitted and waiting for their round.
    pub queued: u64,
    /// Acknowledged again and dropped.
    pub duplicate: u64,
    /// Of another run, learner or lease; collected with another version than scheduled, or with one
    /// that is too old.
    pub stale: u64,
    /// Malformed, not finite, or out of sequence.
    pub invalid: u64,
}

/// What became of an unroll on arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Admitted.
    Queued,
    /// Known already.
    Duplicate,
    /// Refused for its name or version.
    Stale,
    /// Refused for what it holds.
    Invalid,
}

/// Why an unroll was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// Its run, lease or learner epoch is over.
    Stale,
    /// The schedule asks for another version.
    WrongVersion,
    /// Its version would be too old when it is trained on.
    TooOld,
    /// Its version has not been published.
    Unpublished,
    /// One before it is missing.
    Gap,
    /// It is malformed.
    Invalid,
    /// A value is not finite.
    NonFinite,
}

impl Refused {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Stale,
        Self::WrongVersion,
        Self::TooOld,
        Self::Unpublished,
        Self::Gap,
        Self::Invalid,
        Self::NonFinite,
    ];

    /// Its name in metrics and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::WrongVersion => "wrong_version",
            Self::TooOld => "too_old",
            Self::Unpublished => "unpublished",
            Self::Gap => "gap",
            Self::Invalid => "invalid",
            Self::NonFinite => "non_finite",
        }
    }

    /// What it counts as.
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Stale | Self::WrongVersion | Self::TooOld => Outcome::Stale,
            Self::Unpublished | Self::Gap | Self::Invalid | Self::NonFinite => Outcome::Invalid,
        }
    }
}

/// The counts, kept together so that a reader never sees half of a change.
#[derive(Debug, Default)]
pub struct Accounting(Mutex<Books>);

#[derive(Clone, Debug, Default)]
struct Books {
    counts: UnrollCounts,
    refused: BTreeMap<Refused, u64>,
}

impl Accounting {
    /// Counts one arrival.
    pub fn arrived(&self, outcome: Outcome) {
        self.books().counts.arrived(outcome);
        metrics::count_unroll(outcome);
    }

    /// Counts one arrival that was refused.
    pub fn refused(&self, reason: Refused) {
        let mut books = self.books();
        books.counts.arrived(reason.outcome());
        *books.refused.entry(reason).or_default() += 1;
        drop(books);
        metrics::count_unroll(reason.outcome());
        metrics::count_refusal(reason);
    }

    /// Moves `count` unrolls from the queue to the trained.
    pub fn trained(&self, count: u64) {
        let mut books = self.books();
        books.counts.queued -= count;
        books.counts.trained += count;
        drop(books);
        metrics::count_trained(count);
    }

    /// The counts now.
    #[must_use]
    pub fn counts(&self) -> UnrollCounts {
        self.books().counts
    }

    /// How many were refused, by reason; those that are stale or invalid.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<Refused, u64> {
        self.books().refused.clone()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnrollCounts {
    fn arrived(&mut self, outcome: Outcome) {
        self.received += 1;
        *match outcome {
            Outcome::Queued => &mut self.queued,
            Outcome::Duplicate => &mut self.duplicate,
            Outcome::Stale => &mut self.stale,
            Outcome::Invalid => &mut self.invalid,
        } += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_holds_after_every_change() {
        let accounting = Accounting::default();
        let holds = |counts: UnrollCounts| {
            counts.received
                == counts.trained + counts.queued + counts.duplicate + counts.stale + counts.invalid
        };
        for outcome in [
            Outcome::Queued,
            Outcome::Duplicate,
            Outcome::Stale,
            Outcome::Invalid,
        ] {
            for _ in 0..3 {
                accounting.arrived(outcome);
                assert!(holds(accounting.counts()));
            }
        }
        accounting.trained(2);
        let counts = accounting.counts();
        assert!(holds(counts));
        assert_eq!((counts.queued, counts.trained, counts.received), (1, 2, 12));
    }

    #[test]
    fn refusals_add_up_to_what_is_stale_or_invalid() {
        let accounting = Accounting::default();
        accounting.arrived(Outcome::Queued);
        for reason in Refused::ALL {
            accounting.refused(reason);
        }
        accounting.refused(Refused::TooOld);
        let counts = accounting.counts();
        assert_eq!((counts.received, counts.stale, counts.invalid), (9, 4, 4));
        let refusals = accounting.refusals();
        assert_eq!(refusals[&Refused::TooOld], 2);
        assert_eq!(refusals.values().sum::<u64>(), 8);
    }
}
