//! Where every unroll went: `received = trained + queued + duplicate + stale + invalid`, at any
//! moment.

use std::sync::{Mutex, PoisonError};

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
    /// Of another run, learner or lease; collected with another version than scheduled.
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
    /// Refused for its name.
    Stale,
    /// Refused for what it holds.
    Invalid,
}

/// The counts, kept together so that a reader never sees half of a change.
#[derive(Debug, Default)]
pub struct Accounting(Mutex<UnrollCounts>);

impl Accounting {
    /// Counts one arrival.
    pub fn arrived(&self, outcome: Outcome) {
        self.change(|counts| {
            counts.received += 1;
            *match outcome {
                Outcome::Queued => &mut counts.queued,
                Outcome::Duplicate => &mut counts.duplicate,
                Outcome::Stale => &mut counts.stale,
                Outcome::Invalid => &mut counts.invalid,
            } += 1;
        });
        metrics::count_unroll(outcome);
    }

    /// Moves `count` unrolls from the queue to the trained.
    pub fn trained(&self, count: u64) {
        self.change(|counts| {
            counts.queued -= count;
            counts.trained += count;
        });
        metrics::count_trained(count);
    }

    /// The counts now.
    #[must_use]
    pub fn counts(&self) -> UnrollCounts {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut UnrollCounts)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
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
}
