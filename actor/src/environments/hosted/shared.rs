//! Memory that this process and a host have in common, copied in and out; nothing else here touches
//! raw memory.
//!
//! Which of the two may write where at which time is agreed by the numbers in the first words, which
//! are atomic here and single aligned stores there. What a host writes is checked after it has been
//! copied, never before.

use std::io;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

use bytemuck::{AnyBitPattern, NoUninit};
use rustix::fs::SealFlags;
use rustix::mm::{MapFlags, ProtFlags};

/// A mapping of a whole file, for as long as this lives.
#[derive(Debug)]
pub(super) struct SharedMemory {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value, and no method hands out a reference to its bytes but
// to atomics.
#[expect(unsafe_code, reason = "a mapping is not bound to a thread")]
unsafe impl Send for SharedMemory {}

impl SharedMemory {
    /// Maps the first `len` bytes of a file, which must be sealed against shrinking.
    ///
    /// # Errors
    /// Where the file is shorter, may shrink or cannot be mapped.
    pub(super) fn map(file: impl AsFd, len: usize) -> io::Result<Self> {
        let size = rustix::fs::fstat(&file)?.st_size;
        let seals = rustix::fs::fcntl_get_seals(&file)?;
        if !seals.contains(SealFlags::SHRINK)
            || u64::try_from(size).is_ok_and(|size| size < len as u64)
        {
            let message = "the shared file is too short or not sealed";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing of ours.
        #[expect(unsafe_code, reason = "mapping a file")]
        let base = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                0,
            )?
        };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, len })
    }

    /// The `index`-th word.
    ///
    /// # Panics
    /// If it lies beyond the end.
    #[inline]
    pub(super) fn word(&self, index: usize) -> &AtomicU64 {
        assert!((index + 1) * 8 <= self.len, "a word within the mapping");
        // SAFETY: the address lies in the mapping, which lives as long as `self`, is aligned to 8
        // bytes since mappings are aligned to pages, and is only ever accessed as a whole word.
        #[expect(unsafe_code, reason = "words are shared with another process")]
        #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins with a page")]
        unsafe {
            AtomicU64::from_ptr(self.base.as_ptr().cast::<u64>().add(index))
        }
    }

    /// Copies what stands at `offset`, in bytes.
    ///
    /// # Panics
    /// If it reaches beyond the end.
    #[inline]
    pub(super) fn read<T: AnyBitPattern>(&self, offset: usize, values: &mut [T]) {
        let size = size_of_val(values);
        assert!(
            offset.checked_add(size).is_some_and(|end| end <= self.len),
            "within the mapping"
        );
        // SAFETY: both ranges are valid for `size` bytes and cannot overlap, since `values` is
        // borrowed and the mapping never is; every pattern of bits is a `T`. The host, which could
        // write meanwhile, does so only between a request and its answer.
        #[expect(unsafe_code, reason = "copying out of a mapping")]
        unsafe {
            let from = self.base.as_ptr().add(offset);
            ptr::copy_nonoverlapping(from, values.as_mut_ptr().cast::<u8>(), size);
        }
    }

    /// Copies `values` to `offset`, in bytes.
    ///
    /// # Panics
    /// If they reach beyond the end.
    #[inline]
    pub(super) fn write<T: NoUninit>(&self, offset: usize, values: &[T]) {
        let size = size_of_val(values);
        assert!(
            offset.checked_add(size).is_some_and(|end| end <= self.len),
            "within the mapping"
        );
        // SAFETY: as for `read`, the other way round; a `T` has no bytes that are not initialised.
        #[expect(unsafe_code, reason = "copying into a mapping")]
        unsafe {
            let to = self.base.as_ptr().add(offset);
            ptr::copy_nonoverlapping(values.as_ptr().cast::<u8>(), to, size);
        }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: the range is the one that was mapped, and nothing refers to it any more.
        #[expect(unsafe_code, reason = "unmapping a file")]
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
        if let Err(error) = unmapped {
            tracing::warn!(%error, "cannot unmap shared memory");
        }
    }
}
