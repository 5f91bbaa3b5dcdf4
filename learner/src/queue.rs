//! The bound on what is admitted and not yet trained on: where it is reached, whoever brings an
//! unroll waits, and with it the sender's environments.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rookery_common::configuration::Schedule;
use rookery_common::unroll::UnrollShape;
use thiserror::Error;
use tokio::sync::{Notify, Semaphore};

use crate::metrics;

/// How much may be in the queue.
///
/// Bytes are what is configured. Unrolls are bounded too, because one that has waited for more than
/// `max_policy_lag` updates is refused: half of that may be spent in the queue, the rest is left for
/// collecting it and bringing it here. So a learner that is too slow makes its actors wait, and not
/// collect in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueBound {
    /// Bytes of all unrolls together.
    pub max_bytes: u64,
    /// Number of unrolls.
    pub max_unrolls: usize,
    /// Unrolls that find room in any case: an update in the making is never short of the room for
    /// what it waits for.
    pub unrolls_per_update: usize,
}

impl QueueBound {
    /// The bound of a schedule. A synchronous one bounds its unrolls by itself.
    #[must_use]
    pub fn of(schedule: Schedule) -> Option<Self> {
        match schedule {
            Schedule::Synchronous { .. } => None,
            Schedule::Asynchronous {
                max_policy_lag,
                unrolls_per_update,
                max_queue_bytes,
            } => Some(Self {
                max_bytes: max_queue_bytes,
                max_unrolls: (max_policy_lag as usize / 2 + 1).saturating_mul(unrolls_per_update),
                unrolls_per_update,
            }),
        }
    }

    /// Checks that the unrolls of one update fit in.
    ///
    /// # Errors
    /// [`QueueTooSmall`], with both numbers.
    pub fn check(&self, shape: &UnrollShape) -> Result<(), QueueTooSmall> {
        let needed = shape.num_bytes() * self.unrolls_per_update as u128;
        if needed > u128::from(self.max_bytes) {
            return Err(QueueTooSmall {
                unrolls: self.unrolls_per_update,
                needed,
                max_bytes: self.max_bytes,
            });
        }
        Ok(())
    }

    /// Whether an unroll of `bytes` finds room beside `load`.
    #[must_use]
    pub fn has_room(&self, load: QueueLoad, bytes: u64) -> bool {
        load.unrolls < self.unrolls_per_update
            || (load.unrolls < self.max_unrolls && load.bytes + bytes <= self.max_bytes)
    }
}

/// A queue that no update fits into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the {unrolls} unrolls of one update take {needed} bytes with this environment's observations and \
     actions, and schedule.max_queue_bytes lets {max_bytes} wait: no update would ever be whole; raise \
     max_queue_bytes, or lower schedule.unrolls_per_update or rollout.unroll_length"
)]
pub struct QueueTooSmall {
    /// Unrolls of one update.
    pub unrolls: usize,
    /// Bytes that they take at the least.
    pub needed: u128,
    /// Bytes that may be in the queue.
    pub max_bytes: u64,
}

/// What is in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueLoad {
    /// Bytes of all unrolls together.
    pub bytes: u64,
    /// Number of unrolls.
    pub unrolls: usize,
}

/// The queue's book-keeping; the unrolls themselves are elsewhere and have a [`Place`] each.
#[derive(Clone, Debug)]
pub struct Queue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bound: Option<QueueBound>,
    load: Mutex<QueueLoad>,
    /// Nanoseconds that unrolls have waited for room, all together.
    waited: AtomicU64,
    left: Notify,
    /// Whoever waits for room holds it, so that the others wait behind, first come, first served.
    turn: Semaphore,
}

/// One unroll's room, from before its admission until it has been trained on; dropping it makes room.
#[derive(Debug)]
pub struct Place {
    queue: Queue,
    bytes: u64,
}

impl Queue {
    /// An empty queue; without a bound there is always room.
    #[must_use]
    pub fn new(bound: Option<QueueBound>) -> Self {
        Self(Arc::new(Shared {
            bound,
            load: Mutex::default(),
            waited: AtomicU64::new(0),
            left: Notify::new(),
            turn: Semaphore::new(1),
        }))
    }

    /// The bound, where there is one.
    #[must_use]
    pub fn bound(&self) -> Option<QueueBound> {
        self.0.bound
    }

    /// What is in the queue now.
    #[must_use]
    pub fn load(&self) -> QueueLoad {
        *self.lock()
    }

    /// Notes that an unroll has waited for room.
    pub fn note_wait(&self, time: Duration) {
        // Centuries of nanoseconds fit in.
        self.0
            .waited
            .fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
        metrics::record_back_pressure(time);
    }

    /// Time for which unrolls have waited for room, all together.
    #[must_use]
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.0.waited.load(Ordering::Relaxed))
    }

    /// Takes room for an unroll of `bytes`, unless there is none or somebody waits for some.
    #[must_use]
    pub fn try_place(&self, bytes: u64) -> Option<Place> {
        let _turn = self.0.turn.try_acquire().ok()?;
        self.take(bytes)
    }

    /// Waits for room for an unroll of `bytes`. Dropping the future gives its turn up.
    pub async fn place(&self, bytes: u64) -> Place {
        // Nobody closes the semaphore.
        let _turn = self.0.turn.acquire().await;
        loop {
            // Before the look: whoever leaves after it is not missed.
            let left = self.0.left.notified();
            if let Some(place) = self.take(bytes) {
                return place;
            }
            left.await;
        }
    }

    fn take(&self, bytes: u64) -> Option<Place> {
        let mut load = self.lock();
        let has_room = self
            .0
            .bound
            .is_none_or(|bound| bound.has_room(*load, bytes));
        if !has_room {
            return None;
        }
        load.bytes += bytes;
        load.unrolls += 1;
        metrics::set_queue(*load);
        Some(Place {
            queue: self.clone(),
            bytes,
        })
    }

    fn lock(&self) -> MutexGuard<'_, QueueLoad> {
        self.0.load.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut load = self.queue.lock();
        load.bytes -= self.bytes;
        load.unrolls -= 1;
        metrics::set_queue(*load);
        drop(load);
        self.queue.0.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUND: QueueBound = QueueBound {
        max_bytes: 100,
        max_unrolls: 6,
        unrolls_per_update: 2,
    };

    fn load(unrolls: usize, bytes: u64) -> QueueLoad {
        QueueLoad { bytes, unrolls }
    }

    #[test]
    fn an_update_in_the_making_finds_room_whatever_its_unrolls_take() {
        assert!(BOUND.has_room(load(0, 0), 1_000));
        assert!(BOUND.has_room(load(1, 1_000), 1_000));
        assert!(!BOUND.has_room(load(2, 2_000), 1));
    }

    #[test]
    fn bytes_and_unrolls_are_bounded() {
        assert!(BOUND.has_room(load(2, 60), 40));
        assert!(!BOUND.has_room(load(2, 60), 41));
        assert!(BOUND.has_room(load(5, 0), 1));
        assert!(!BOUND.has_room(load(6, 0), 1));
    }

    #[test]
    fn a_queue_that_no_update_fits_into_is_refused_with_both_numbers() {
        let shape = |unroll_length| UnrollShape {
            unroll_length,
            envs_per_shard: 1,
            observation_width: 1,
            action_width: 1,
            state_width: 0,
            frames: None,
        };
        // 18 bytes a step and 4 for the last observation.
        assert_eq!(BOUND.check(&shape(2)), Ok(()));
        let error = BOUND.check(&shape(3)).unwrap_err().to_string();
        assert!(
            error.contains("2 unrolls of one update take 116 bytes"),
            "{error}"
        );
        assert!(error.contains("max_queue_bytes lets 100 wait"), "{error}");
    }

    #[test]
    fn half_of_the_lag_may_be_spent_in_the_queue() {
        let bound = |max_policy_lag| {
            QueueBound::of(Schedule::Asynchronous {
                max_policy_lag,
                unrolls_per_update: 4,
                max_queue_bytes: 100,
            })
        };
        assert_eq!(bound(0).unwrap().max_unrolls, 4);
        assert_eq!(bound(1).unwrap().max_unrolls, 4);
        assert_eq!(bound(8).unwrap().max_unrolls, 20);
        assert_eq!(QueueBound::of(Schedule::Synchronous { lag: 1 }), None);
    }

    #[test]
    fn without_a_bound_there_is_always_room() {
        let queue = Queue::new(None);
        let places: Vec<Place> = (0..100)
            .map(|_| queue.try_place(1 << 40).unwrap())
            .collect();
        assert_eq!(queue.load(), load(100, 100 << 40));
        drop(places);
        assert_eq!(queue.load(), load(0, 0));
    }

    #[tokio::test]
    async fn who_waits_gets_the_room_of_who_leaves_and_nobody_pushes_in() {
        let queue = Queue::new(Some(BOUND));
        let mut held: Vec<Place> = (0..3).map(|_| queue.try_place(30).unwrap()).collect();
        let waiting = queue.place(60);
        tokio::pin!(waiting);
        let none = tokio::time::timeout(Duration::ZERO, &mut waiting).await;
        assert!(none.is_err(), "90 of 100 bytes are taken");
        assert!(queue.try_place(1).is_none(), "somebody waits already");
        let behind = queue.place(1);
        tokio::pin!(behind);
        assert!(
            tokio::time::timeout(Duration::ZERO, &mut behind)
                .await
                .is_err()
        );
        held.truncate(1);
        let place = waiting.await;
        assert_eq!(queue.load(), load(2, 90));
        drop(behind.await);
        drop((place, held));
        assert_eq!(queue.load(), load(0, 0));
    }

    #[tokio::test]
    async fn who_gives_up_waiting_lets_the_next_one_in() {
        let queue = Queue::new(Some(BOUND));
        let held: Vec<Place> = (0..2).map(|_| queue.try_place(50).unwrap()).collect();
        let given_up = tokio::time::timeout(Duration::ZERO, queue.place(50)).await;
        assert!(given_up.is_err());
        drop(held);
        assert!(queue.try_place(50).is_some());
    }

    proptest! {
        /// Whatever comes and goes, more bytes than the bound are held by one update alone.
        #[test]
        fn the_bound_is_exceeded_by_one_update_at_most(
            events in prop::collection::vec((any::<bool>(), 0_u64..80), 1..80),
        ) {
            let queue = Queue::new(Some(BOUND));
            let mut held = Vec::new();
            for (comes, bytes) in events {
                if comes {
                    held.extend(queue.try_place(bytes));
                } else if !held.is_empty() {
                    held.remove(bytes as usize % held.len());
                }
                let expected = held.iter().map(|place| place.bytes).sum::<u64>();
                prop_assert_eq!(queue.load(), load(held.len(), expected));
                prop_assert!(held.len() <= BOUND.max_unrolls);
                let is_one_update = held.len() <= BOUND.unrolls_per_update;
                prop_assert!(expected <= BOUND.max_bytes || is_one_update);
            }
        }
    }
}
