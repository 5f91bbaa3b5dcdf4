//! When a process is asked to end: SIGTERM, SIGINT, or the death of its parent.

use std::io::Read;

use tokio::signal::unix::{SignalKind, signal};

/// Resolves when the process is asked to end.
///
/// With `with_parent`, the end of standard input counts too: whoever started this process holds
/// the other end of a pipe, which the kernel closes when that process dies, however it dies.
pub async fn requested(with_parent: bool) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        // Without handlers the signals end the process at once, which also works.
        tracing::warn!("cannot handle signals; a shutdown will not be graceful");
        return std::future::pending().await;
    };
    let (closed, mut stdin_closed) = tokio::sync::mpsc::channel::<()>(1);
    if with_parent {
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            let mut stdin = std::io::stdin();
            while matches!(stdin.read(&mut buffer), Ok(1..)) {}
            drop(closed);
        });
    } else {
        // Never closed: `recv` below stays pending.
        std::mem::forget(closed);
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = stdin_closed.recv() => {}
    }
}
