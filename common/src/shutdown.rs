//! When a process is asked to end: SIGTERM, SIGINT, or the death of its parent.

use std::io::Read;

use tokio::signal::unix::{SignalKind, signal};

/// Resolves when the process is asked to end. Signals are heard from the call on, and not only
/// once somebody waits: a process that has said that it is there can be told to end.
///
/// With `with_parent`, the end of standard input counts too: whoever started this process holds
/// the other end of a pipe, which the kernel closes when that process dies, however it dies.
///
/// # Panics
/// When it is called outside a tokio runtime.
pub fn requested(with_parent: bool) -> impl Future<Output = ()> {
    let signals =
        signal(SignalKind::terminate()).and_then(|it| Ok((it, signal(SignalKind::interrupt())?)));
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
    async move {
        let (mut terminate, mut interrupt) = match signals {
            Ok(signals) => signals,
            Err(error) => {
                // Without handlers the signals end the process at once, which also works.
                tracing::warn!(%error, "cannot handle signals; a shutdown will not be graceful");
                return std::future::pending().await;
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = stdin_closed.recv() => {}
        }
    }
}
