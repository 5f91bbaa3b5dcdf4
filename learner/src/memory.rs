//! What the process does with memory that libtorch gives back.

/// Freed memory at the top of the heap from which on it goes back to the kernel, in bytes.
#[cfg(target_env = "gnu")]
const MAX_KEPT: libc::c_int = 1 << 30;

/// Keeps freed memory for the next tensor. A gradient step takes and frees the same megabytes over and
/// over; by default glibc hands large blocks back to the kernel, and touching them anew cost a fifth of the
/// time of a policy that sees images. One heap for all threads, since those that glibc makes for others than
/// the first end at 64 MiB, and nothing is mapped by itself. Affects speed alone; to be called before the
/// first thread starts.
pub fn keep_freed() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_MAX, 0),
        (libc::M_TRIM_THRESHOLD, MAX_KEPT),
    ] {
        #[expect(
            unsafe_code,
            reason = "the C library's allocator has no safe interface"
        )]
        // SAFETY: `mallopt` takes two integers and changes settings of the allocator, under its lock.
        let accepted = unsafe { libc::mallopt(parameter, value) };
        debug_assert_eq!(accepted, 1, "glibc knows the parameter and its range");
    }
}
