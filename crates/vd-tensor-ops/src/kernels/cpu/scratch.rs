//! Scratch memory of a thread.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ptr::NonNull;

/// A cache line, and the widest vector.
const ALIGN: usize = 64;

thread_local! {
    /// Blocks that this thread has used and given back.
    static FREE: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

/// Aligned f32.
#[derive(Debug)]
pub(crate) struct Block {
    at: NonNull<f32>,
    len: usize,
}

// SAFETY: a block owns its memory, as a `Vec<f32>` does.
unsafe impl Send for Block {}
// SAFETY: shared, it is only read.
unsafe impl Sync for Block {}

impl Block {
    fn layout(len: usize) -> Layout {
        match Layout::array::<f32>(len).and_then(|layout| layout.align_to(ALIGN)) {
            Ok(layout) => layout,
            Err(_) => handle_alloc_error(Layout::new::<f32>()),
        }
    }

    /// `len` zeros, at least one.
    pub(crate) fn new(len: usize) -> Self {
        Self::of(len, alloc_zeroed)
    }

    /// `len` uninitialised values, at least one, to be written before they are read: zeroing would
    /// be one more pass over memory.
    pub(crate) fn unset(len: usize) -> Self {
        Self::of(len, alloc)
    }

    fn of(len: usize, take: unsafe fn(Layout) -> *mut u8) -> Self {
        let len = len.max(1);
        let layout = Self::layout(len);
        // SAFETY: `len` is above 0, so the layout is not empty.
        match NonNull::new(unsafe { take(layout) }.cast()) {
            Some(at) => Block { at, len },
            None => handle_alloc_error(layout),
        }
    }

    /// The first value.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.at.as_ptr()
    }

    pub(crate) fn as_ptr(&self) -> *const f32 {
        self.at.as_ptr()
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: the block has `len` values and is borrowed whole.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.at.as_ptr().cast(), Self::layout(self.len)) }
    }
}

/// Aligned f32 scratch memory of one thread; reused by the next taker when dropped.
///
/// Contains values of an earlier user, zeros at first. Uses may nest: a kernel that calls another
/// does not share its buffer.
pub(crate) struct Scratch {
    block: Option<Block>,
}

impl Scratch {
    /// `len` values.
    pub(crate) fn take(len: usize) -> Self {
        let found = FREE.with_borrow_mut(|free| {
            let fits = free.iter().enumerate().filter(|(_, block)| block.len >= len);
            let best = fits.min_by_key(|(_, block)| block.len).map(|(i, _)| i);
            // A block that is too small is replaced by the larger one.
            best.or_else(|| free.len().checked_sub(1)).map(|i| free.swap_remove(i))
        });
        let block = match found {
            Some(block) if block.len >= len => block,
            _ => Block::new(len.next_multiple_of(1024)),
        };
        Scratch { block: Some(block) }
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.block.as_ref().map_or(std::ptr::null_mut(), |block| block.at.as_ptr())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            // A thread that is ending has no list any more: the block is freed.
            let _ = FREE.try_with(|free| free.borrow_mut().push(block));
        }
    }
}
