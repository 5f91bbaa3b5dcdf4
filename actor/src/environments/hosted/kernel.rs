//! What a thread that waits for its host asks of the kernel: the time, and a core.

use std::time::Duration;

use rustix::thread::{sched_getaffinity, sched_getcpu, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// The time of the system's monotonic clock, which a host reads too.
pub(super) fn monotonic_time() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The time since a [monotonic time](monotonic_time).
pub(super) fn elapsed(since: Duration) -> Duration {
    monotonic_time().saturating_sub(since)
}

/// Moves this thread to another core, if it runs on this one, where its host does: a scheduler that sees one
/// of the two asleep most of the time may leave both there, and each waking then interrupts the host.
pub(super) fn step_aside(core: u64) {
    if sched_getcpu() as u64 != core {
        return;
    }
    // Where one of these fails the thread stays where it is, which is slower and nothing else.
    let Ok(allowed) = sched_getaffinity(None) else {
        return;
    };
    let mut others = allowed;
    others.unset(core as usize);
    if others.count() > 0 && sched_setaffinity(None, &others).is_ok() {
        let _ = sched_setaffinity(None, &allowed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_on_the_core_of_its_host_moves_and_may_run_where_it_could_before() {
        let allowed = sched_getaffinity(None).unwrap();
        // The scheduler moves threads too.
        let moves = (0..100).any(|_| {
            let core = sched_getcpu();
            step_aside(core as u64);
            sched_getcpu() != core
        });
        assert_eq!(moves, allowed.count() > 1);
        assert_eq!(sched_getaffinity(None).unwrap(), allowed);
        step_aside(u64::MAX);
        assert_eq!(sched_getaffinity(None).unwrap(), allowed);
    }
}
