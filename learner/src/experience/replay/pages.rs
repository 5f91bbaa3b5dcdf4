//! A ring of equally wide rows in pages: memory is claimed page by page as the ring fills, and a
//! clone shares the pages until one of the two writes to them.

use std::sync::Arc;

use bytemuck::Pod;

/// Bytes of a page, about: small enough that the first write to a shared one is cheap, large enough
/// that there are few of them.
const PAGE_BYTES: usize = 64 << 10;

/// Rows of `width` elements in slots `0..num_slots`.
#[derive(Clone, Debug)]
pub(super) struct PagedRing<T> {
    pages: Vec<Arc<[T]>>,
    width: usize,
    num_slots: usize,
    /// Logarithm of the rows in a page.
    shift: u32,
}

impl<T: Pod> PagedRing<T> {
    /// A ring without any page yet.
    ///
    /// # Panics
    /// If `width` is zero.
    pub(super) fn new(width: usize, num_slots: usize) -> Self {
        assert!(width > 0, "a row holds something");
        let rows = PAGE_BYTES / (width * size_of::<T>());
        Self {
            pages: Vec::new(),
            width,
            num_slots,
            shift: rows.max(1).ilog2(),
        }
    }

    /// The row in `slot`, which has been written to.
    #[inline]
    pub(super) fn row(&self, slot: usize) -> &[T] {
        let begin = (slot & self.mask()) * self.width;
        &self.pages[slot >> self.shift][begin..begin + self.width]
    }

    /// The row in `slot`, which has been written to, and those after it on its page.
    #[inline]
    pub(super) fn rows_from(&self, slot: usize) -> &[T] {
        &self.pages[slot >> self.shift][(slot & self.mask()) * self.width..]
    }

    /// The row in `slot` to write to. Slots are first written to in ascending order.
    #[inline]
    pub(super) fn row_mut(&mut self, slot: usize) -> &mut [T] {
        let page = slot >> self.shift;
        while page >= self.pages.len() {
            let rows = (self.num_slots - (self.pages.len() << self.shift)).min(1 << self.shift);
            self.pages
                .push(std::iter::repeat_n(T::zeroed(), rows * self.width).collect());
        }
        let begin = (slot & self.mask()) * self.width;
        &mut Arc::make_mut(&mut self.pages[page])[begin..begin + self.width]
    }

    /// Bytes of the pages claimed so far.
    pub(super) fn num_bytes(&self) -> usize {
        self.pages.iter().map(|page| size_of_val::<[T]>(page)).sum()
    }

    const fn mask(&self) -> usize {
        (1 << self.shift) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_claimed_as_the_ring_fills_and_never_beyond_it() {
        let mut ring = PagedRing::<u32>::new(6, 10_000);
        assert_eq!(ring.num_bytes(), 0);
        ring.row_mut(0)[5] = 7;
        assert_eq!(ring.num_bytes(), 2048 * 24);
        for slot in 1..10_000 {
            ring.row_mut(slot).fill(slot as u32);
        }
        assert_eq!(ring.num_bytes(), 10_000 * 24);
        assert_eq!(ring.row(0), [0, 0, 0, 0, 0, 7]);
        assert_eq!(ring.row(9_999), [9_999; 6]);
    }

    #[test]
    fn a_clone_keeps_what_it_saw_and_shares_the_rest() {
        let mut ring = PagedRing::<u8>::new(1 << 16, 3);
        for slot in 0..3 {
            ring.row_mut(slot).fill(slot as u8);
        }
        let clone = ring.clone();
        ring.row_mut(1).fill(9);
        assert_eq!((clone.row(1)[0], ring.row(1)[0]), (1, 9));
        assert!(Arc::ptr_eq(&clone.pages[2], &ring.pages[2]));
    }

    #[test]
    fn a_row_wider_than_a_page_has_its_own() {
        let mut ring = PagedRing::<f32>::new(100_000, 2);
        ring.row_mut(1)[99_999] = 1.0;
        assert_eq!(ring.row(1)[99_999], 1.0);
        assert_eq!(ring.num_bytes(), 800_000);
    }
}
