//! Waiting for conditions, never for time.

use std::thread;
use std::time::{Duration, Instant};

/// Enough for anything on a machine that is busy with other things.
pub const LONG: Duration = Duration::from_mins(1);

/// Between two looks at a condition.
const INTERVAL: Duration = Duration::from_millis(2);

/// Looks at `condition` until it gives a value.
///
/// # Panics
/// After `deadline`, with `what` it waited for.
pub fn wait<T>(what: &str, deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            since.elapsed() < deadline,
            "waited {deadline:?} in vain: {what}"
        );
        thread::sleep(INTERVAL);
    }
}

/// Looks at `condition` until it holds.
///
/// # Panics
/// After `deadline`, with `what` it waited for.
pub fn until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    wait(what, deadline, || condition().then_some(()));
}
