//! The rate limiter: how often what is inserted may be sampled, bounded in both directions.
//!
//! # Formula
//! With `inserted` and `sampled` items so far, the **surplus** is
//! `inserted * samples_per_insert - sampled`: the samples that are due. It is kept within
//! `tolerance` of where it stood when sampling became possible,
//! `minimum_size * samples_per_insert`:
//!
//! * `n` items can be sampled once `minimum_size` have been inserted, while the surplus after it
//!   stays at or above `minimum_size * samples_per_insert - tolerance`: the learner waits for
//!   actors.
//! * `n` items can be inserted while the surplus after it stays at or below
//!   `minimum_size * samples_per_insert + tolerance`: the actors wait for the learner. Until
//!   `minimum_size` have been inserted, inserting is always possible, also where the last insertion
//!   before it leads beyond the band.
//!
//! # Waiting
//! The limiter neither waits nor knows threads. Whoever waits keeps it in a mutex with what ends the
//! waiting (a flag, a closed channel), and under that lock repeats: go, if the limiter lets it; give
//! up, if the end has come; else wait on a condition variable that every insertion, every sample and
//! the end notify. So a shutdown releases whoever is blocked (T31).
//!
//! # Source
//! Cassirer et al. 2021, "Reverb: a framework for experience replay", section 3.3,
//! `SampleToInsertRatio` with an error buffer. Departures: items arrive and leave in groups, so that
//! the band must be wide enough for them, which [`RateLimiter::new`] checks; and the insertion that
//! reaches `minimum_size` is never blocked.

use rookery_common::configuration::ReplayConfiguration;
use serde::{Deserialize, Serialize};

/// What bounds the ratio of samples to insertions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleRatio {
    /// Items sampled for each one inserted, in the long run.
    pub samples_per_insert: f64,
    /// Half the width of the band, in sampled items.
    pub tolerance: f64,
}

impl SampleRatio {
    /// What the configuration bounds, if anything.
    #[must_use]
    pub fn configured(configuration: &ReplayConfiguration) -> Option<Self> {
        Some(Self {
            samples_per_insert: configuration.samples_per_insert?,
            tolerance: configuration.tolerance()?,
        })
    }
}

/// Why a limiter cannot work.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LimiterError {
    /// The ratio or the tolerance is no positive number.
    #[error(
        "samples per insert {samples_per_insert} and its tolerance {tolerance} must be above 0"
    )]
    NotPositive {
        /// The ratio.
        samples_per_insert: f64,
        /// The tolerance.
        tolerance: f64,
    },
    /// Both sides would wait for each other.
    #[error(
        "a tolerance of {tolerance} sampled items is too narrow where {insert} items are inserted \
         and {sample} sampled at once: both sides could wait for each other; raise \
         replay.samples_per_insert_tolerance to at least {needed}"
    )]
    TooNarrow {
        /// The tolerance.
        tolerance: f64,
        /// Items inserted at once.
        insert: u64,
        /// Items sampled at once.
        sample: u64,
        /// The smallest tolerance that works.
        needed: f64,
    },
}

/// The limiter's counters and bounds. All of it belongs into a checkpoint: with the counters gone a
/// restarted run would sample too much or wait too long (T31).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateLimiter {
    minimum_size: u64,
    ratio: Option<SampleRatio>,
    inserted: u64,
    sampled: u64,
    /// Items inserted when the store was last empty.
    inserted_before: u64,
}

impl RateLimiter {
    /// A limiter of an empty store into which items come `insert_size` at once and from which they
    /// are sampled `sample_size` at once. Without a `ratio` only the minimum size is enforced.
    ///
    /// # Errors
    /// Where the ratio is not positive, or its band so narrow that a state exists in which neither
    /// side can go on.
    pub fn new(
        minimum_size: u64,
        ratio: Option<SampleRatio>,
        insert_size: u64,
        sample_size: u64,
    ) -> Result<Self, LimiterError> {
        if let Some(SampleRatio {
            samples_per_insert,
            tolerance,
        }) = ratio
        {
            if !(samples_per_insert > 0.0 && tolerance > 0.0) {
                return Err(LimiterError::NotPositive {
                    samples_per_insert,
                    tolerance,
                });
            }
            // Both wait at once only with a surplus that is within one sample of the lower border
            // and within one insertion of the upper one.
            let needed = 0.5 * (insert_size as f64 * samples_per_insert + sample_size as f64);
            if tolerance < needed {
                return Err(LimiterError::TooNarrow {
                    tolerance,
                    insert: insert_size,
                    sample: sample_size,
                    needed,
                });
            }
        }
        Ok(Self {
            minimum_size,
            ratio,
            inserted: 0,
            sampled: 0,
            inserted_before: 0,
        })
    }

    /// Whether `n` more items can be inserted now.
    #[must_use]
    pub fn can_insert(&self, n: u64) -> bool {
        !self.is_filled()
            || self.ratio.is_none_or(|ratio| {
                let due = n as f64 * ratio.samples_per_insert;
                self.surplus(&ratio) + due <= self.centre(&ratio) + ratio.tolerance
            })
    }

    /// Whether `n` more items can be sampled now.
    #[must_use]
    pub fn can_sample(&self, n: u64) -> bool {
        self.is_filled()
            && self.ratio.is_none_or(|ratio| {
                self.surplus(&ratio) - n as f64 >= self.centre(&ratio) - ratio.tolerance
            })
    }

    /// Counts `n` insertions.
    pub const fn record_insert(&mut self, n: u64) {
        self.inserted += n;
    }

    /// Counts `n` samples.
    pub const fn record_sample(&mut self, n: u64) {
        self.sampled += n;
    }

    /// Goes on from the counters of a checkpoint (T31).
    pub const fn restore(&mut self, inserted: u64, sampled: u64) {
        self.inserted = inserted;
        self.sampled = sampled;
        self.inserted_before = 0;
    }

    /// Says that the store has lost its items, as after a restart from a checkpoint without them:
    /// the minimum size must be reached again, the ratio goes on as it was.
    pub const fn restart_empty(&mut self) {
        self.inserted_before = self.inserted;
    }

    /// Items inserted so far.
    #[must_use]
    pub const fn inserted(&self) -> u64 {
        self.inserted
    }

    /// Items sampled so far.
    #[must_use]
    pub const fn sampled(&self) -> u64 {
        self.sampled
    }

    const fn is_filled(&self) -> bool {
        self.inserted - self.inserted_before >= self.minimum_size
    }

    fn surplus(&self, ratio: &SampleRatio) -> f64 {
        self.inserted as f64 * ratio.samples_per_insert - self.sampled as f64
    }

    fn centre(&self, ratio: &SampleRatio) -> f64 {
        self.minimum_size as f64 * ratio.samples_per_insert
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Condvar, Mutex};

    use proptest::prelude::*;
    use rookery_common::snapshot;
    use serde::Deserialize;

    use super::*;

    fn limiter(minimum_size: u64, samples_per_insert: f64, tolerance: f64) -> RateLimiter {
        let ratio = SampleRatio {
            samples_per_insert,
            tolerance,
        };
        RateLimiter::new(minimum_size, Some(ratio), 1, 1).unwrap()
    }

    #[test]
    fn blocks_samples_until_the_minimum_size() {
        let mut limiter = RateLimiter::new(10, None, 4, 32).unwrap();
        limiter.record_insert(9);
        assert!(!limiter.can_sample(1));
        assert!(limiter.can_insert(1_000));
        limiter.record_insert(1);
        assert!(limiter.can_sample(1_000_000));
    }

    #[test]
    fn both_directions_are_bounded() {
        let mut limiter = limiter(10, 2.0, 4.0);
        limiter.record_insert(10);
        // The surplus is 20 and may move between 16 and 24.
        assert!(limiter.can_sample(4) && !limiter.can_sample(5));
        assert!(limiter.can_insert(2) && !limiter.can_insert(3));
        limiter.record_sample(4);
        assert!(!limiter.can_sample(1) && limiter.can_insert(4));
        limiter.record_insert(4);
        assert!(!limiter.can_insert(1) && limiter.can_sample(8));
    }

    #[test]
    fn bands_in_which_both_could_wait_are_refused() {
        let ratio = |samples_per_insert, tolerance| {
            Some(SampleRatio {
                samples_per_insert,
                tolerance,
            })
        };
        assert_eq!(
            RateLimiter::new(100, ratio(0.5, 20.0), 64, 32),
            Err(LimiterError::TooNarrow {
                tolerance: 20.0,
                insert: 64,
                sample: 32,
                needed: 32.0
            })
        );
        assert!(RateLimiter::new(100, ratio(0.5, 32.0), 64, 32).is_ok());
        for (samples_per_insert, tolerance) in [(0.0, 1.0), (1.0, -1.0), (f64::NAN, 1.0)] {
            assert!(matches!(
                RateLimiter::new(1, ratio(samples_per_insert, tolerance), 1, 1),
                Err(LimiterError::NotPositive { .. })
            ));
        }
    }

    #[test]
    fn t31_counters_survive_a_restart() {
        let mut before = limiter(10, 2.0, 4.0);
        before.record_insert(12);
        before.record_sample(8);
        let mut bytes = Vec::new();
        snapshot::encode(1, &before, &mut bytes);
        let after: RateLimiter = snapshot::decode_all(1, &bytes).unwrap();
        assert_eq!(after, before);
        let mut resumed = limiter(10, 2.0, 4.0);
        resumed.record_insert(99);
        resumed.restore(12, 8);
        assert_eq!(resumed, before);
        assert!(!after.can_sample(1) && after.can_insert(4) && !after.can_insert(5));
    }

    #[test]
    fn t31_a_store_that_comes_back_empty_fills_again_before_it_is_sampled() {
        let mut limiter = limiter(10, 2.0, 4.0);
        limiter.record_insert(12);
        limiter.record_sample(4);
        limiter.restart_empty();
        assert!(!limiter.can_sample(1) && limiter.can_insert(100));
        limiter.record_insert(10);
        // The ratio of all insertions to all samples is caught up with.
        assert!(limiter.can_sample(24) && !limiter.can_sample(25));
    }

    #[test]
    fn t31_a_shutdown_releases_a_blocked_writer() {
        let mut full = limiter(1, 1.0, 1.0);
        full.record_insert(2);
        assert!(!full.can_insert(1));
        let shared = Arc::new((Mutex::new((full, false)), Condvar::new()));
        let writer = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let (state, changed) = &*shared;
                let mut guard = changed
                    .wait_while(state.lock().unwrap(), |(limiter, is_ending)| {
                        !limiter.can_insert(1) && !*is_ending
                    })
                    .unwrap();
                let may_insert = guard.0.can_insert(1);
                guard.0.record_insert(u64::from(may_insert));
                may_insert
            }
        });
        let (state, changed) = &*shared;
        state.lock().unwrap().1 = true;
        changed.notify_all();
        assert!(!writer.join().unwrap());
        assert_eq!(state.lock().unwrap().0.inserted(), 2);
    }

    #[derive(Deserialize)]
    struct Case {
        minimum_size: u64,
        samples_per_insert: f64,
        tolerance: f64,
        /// What is tried and whether it goes: positive inserts, negative samples.
        attempts: Vec<(i64, bool)>,
    }

    #[test]
    fn verdicts_agree_with_an_independent_limiter() {
        #[derive(Deserialize)]
        struct Golden {
            limiter: Vec<Case>,
        }
        let golden = include_str!("../../../tests/golden/replay.json");
        let golden: Golden = serde_json::from_str(golden).unwrap();
        let mut verdicts = [0; 2];
        for case in golden.limiter {
            let mut limiter = limiter(case.minimum_size, case.samples_per_insert, case.tolerance);
            for (step, (attempt, expected)) in case.attempts.into_iter().enumerate() {
                let n = attempt.unsigned_abs();
                let got = if attempt > 0 {
                    limiter.can_insert(n)
                } else {
                    limiter.can_sample(n)
                };
                assert_eq!(got, expected, "attempt {step}: {attempt}");
                verdicts[usize::from(got)] += 1;
                match (got, attempt > 0) {
                    (true, true) => limiter.record_insert(n),
                    (true, false) => limiter.record_sample(n),
                    (false, _) => {}
                }
            }
        }
        assert!(verdicts[0] > 50 && verdicts[1] > 50, "{verdicts:?}");
    }

    proptest! {
        #[test]
        fn the_ratio_stays_in_its_band_and_somebody_can_always_go_on(
            minimum_size in 1_u64..50,
            samples_per_insert in 0.05..8.0_f64,
            insert in 1_u64..20,
            sample in 1_u64..40,
            slack in 1.0..3.0_f64,
            choices in prop::collection::vec(any::<bool>(), 1..400),
        ) {
            let tolerance = slack * 0.5 * (insert as f64 * samples_per_insert + sample as f64);
            let ratio = SampleRatio { samples_per_insert, tolerance };
            let mut limiter =
                RateLimiter::new(minimum_size, Some(ratio), insert, sample).unwrap();
            for choice in choices {
                let (inserts, samples) = (limiter.can_insert(insert), limiter.can_sample(sample));
                prop_assert!(inserts || samples, "both wait: {limiter:?}");
                if inserts && (choice || !samples) {
                    limiter.record_insert(insert);
                } else {
                    limiter.record_sample(sample);
                }
                if limiter.inserted() >= minimum_size {
                    let due = limiter.inserted() as f64 * samples_per_insert;
                    let surplus = due - limiter.sampled() as f64;
                    let centre = minimum_size as f64 * samples_per_insert;
                    prop_assert!(surplus >= centre - tolerance - 1e-9);
                    // The insertion that reaches the minimum may lead beyond the band.
                    let reach = tolerance.max(insert as f64 * samples_per_insert);
                    prop_assert!(surplus <= centre + reach + 1e-9);
                }
            }
        }
    }
}
