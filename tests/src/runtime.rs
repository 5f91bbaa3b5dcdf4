//! One async runtime for the gRPC clients and servers of a test.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads for the clients of the test")
    })
}

/// Runs `future` to its end.
///
/// # Panics
/// Where it takes longer than a minute.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    runtime()
        .block_on(async { tokio::time::timeout(Duration::from_mins(1), future).await })
        .expect("a call of the test's client took more than a minute")
}
