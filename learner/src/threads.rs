//! How work is dealt to the threads that compute.

use std::ffi::{c_uint, c_void};
use std::ptr;
use std::sync::{Mutex, PoisonError};

/// Multiply-adds of one thread that are worth waking another for.
const WORTH_A_THREAD: usize = 4_000_000;

/// Threads that so many multiply-adds are worth: `learner.threads` at most.
pub(crate) fn worth(work: usize) -> usize {
    (work / WORTH_A_THREAD).clamp(1, tch::get_num_threads().max(1) as usize)
}

/// Does the work on every item, on this thread and on `threads - 1` more.
///
/// These are the threads of libtorch: they are awake where it has just computed something, and where two kinds of
/// threads look for work on the same processors neither gets them.
pub(crate) fn in_parallel<T: Send>(
    threads: usize,
    items: impl Iterator<Item = T> + Send,
    work: impl Fn(T) + Sync,
) {
    if threads <= 1 {
        return items.for_each(work);
    }
    let items = Mutex::new(items);
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    let run = || {
        while let Some(item) = next() {
            work(item);
        }
    };
    on_threads(threads, &run);
}

#[expect(unsafe_code, reason = "libgomp has an interface of C alone")]
#[link(name = "gomp")]
unsafe extern "C" {
    /// libgomp's part of `#pragma omp parallel`: runs `work` once on each of `num_threads` threads, of which the
    /// calling one is one, and returns when all of them have.
    #[link_name = "GOMP_parallel"]
    fn gomp_parallel(
        work: extern "C" fn(*mut c_void),
        data: *mut c_void,
        num_threads: c_uint,
        flags: c_uint,
    );
}

/// Runs `run` on so many threads at once and waits for all of them. A panic on one of them ends the process.
fn on_threads<F: Fn() + Sync>(threads: usize, run: &F) {
    extern "C" fn enter<F: Fn()>(run: *mut c_void) {
        // SAFETY: `on_threads` has made it of a reference that outlives the call.
        #[expect(unsafe_code, reason = "libgomp has an interface of C alone")]
        let run = unsafe { &*run.cast::<F>() };
        run();
    }
    let data = ptr::from_ref(run).cast_mut().cast();
    // SAFETY: `enter` only reads what `data` points to, which may be shared among threads, and all of them have
    // returned from it when this does.
    #[expect(unsafe_code, reason = "libgomp has an interface of C alone")]
    unsafe {
        gomp_parallel(enter::<F>, data, threads as c_uint, 0);
    }
}
