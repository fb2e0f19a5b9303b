//! How much memory a thread has allocated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, which counts what each thread allocates and frees.
///
/// ```
/// use vd_torch::fuzz::Counting;
///
/// #[global_allocator]
/// static ALLOCATOR: Counting = Counting;
///
/// let before = Counting::begin();
/// drop(vec![0u8; 1000]);
/// assert!((1000..2000).contains(&Counting::most_since(before)));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Counting;

thread_local! {
    // plain cells without a destructor: reading them never allocates
    static NOW: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

impl Counting {
    /// Starts to track the peak; returns the amount allocated now.
    pub fn begin() -> isize {
        let now = NOW.get();
        MOST.set(now);
        now
    }

    /// Peak number of bytes that this thread had allocated since [`Counting::begin`], beyond those
    /// at its time.
    pub fn most_since(begin: isize) -> usize {
        (MOST.get() - begin).max(0) as usize
    }
}

/// Records that a thread has `bytes` more.
fn note(bytes: isize) {
    // a thread that is ending has no cells any more
    let _ = NOW.try_with(|now| {
        now.set(now.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(now.get())));
    });
}

// SAFETY: every call is passed on to the system's allocator; counting does not touch the blocks.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`, and the block is from the system's
        // allocator.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // while a block is moved, the old and the new one both exist
        note(size as isize);
        note(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `realloc`, and the block is from the system's
        // allocator.
        unsafe { System.realloc(block, layout, size) }
    }
}
