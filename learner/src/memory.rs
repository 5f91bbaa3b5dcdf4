//! What the process does with memory that libtorch gives back.

/// Largest size that glibc lets be kept instead of being mapped each time, in bytes.
#[cfg(target_env = "gnu")]
const MAX_KEPT_BLOCK: libc::c_int = 32 << 20;

/// Freed memory at the top of a heap from which on it goes back to the kernel, in bytes.
#[cfg(target_env = "gnu")]
const MAX_KEPT_TOTAL: libc::c_int = 1 << 30;

/// Keeps freed memory for the next tensor. A gradient step takes and frees the same few megabytes over
/// and over; by default glibc hands them back to the kernel, and touching them anew cost a third of a
/// large minibatch's time. Affects speed alone; to be called before the first thread starts.
pub fn keep_freed() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_MMAP_THRESHOLD, MAX_KEPT_BLOCK),
        (libc::M_TRIM_THRESHOLD, MAX_KEPT_TOTAL),
    ] {
        #[expect(
            unsafe_code,
            reason = "the C library's allocator has no safe interface"
        )]
        // SAFETY: `mallopt` takes two integers and changes thresholds of the allocator, under its lock.
        let accepted = unsafe { libc::mallopt(parameter, value) };
        debug_assert_eq!(accepted, 1, "glibc knows the parameter and its range");
    }
}
