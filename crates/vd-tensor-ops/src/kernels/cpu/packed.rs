//! Caches of packed weights.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};

use tch::Tensor;
use vd_torch::team;

use super::{Block, Isa, gemm};

/// Packed weights, cached until the weights change.
#[derive(Debug)]
pub(crate) struct Cache<K, P> {
    held: Mutex<Vec<(K, Arc<P>)>>,
}

impl<K, P> Default for Cache<K, P> {
    fn default() -> Self {
        Cache { held: Mutex::default() }
    }
}

impl<K: Copy + PartialEq, P> Cache<K, P> {
    /// The result of `make` for `key`, cached; if it has to be made, other entries that are not to
    /// be kept are dropped first. Within [`once`] the result is not cached.
    pub(crate) fn get(
        &self,
        key: K,
        keep: impl Fn(&K) -> bool,
        make: impl FnOnce() -> P,
    ) -> Arc<P> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, packed)) = held.iter().find(|(of, _)| *of == key) {
            return Arc::clone(packed);
        }
        held.retain(|(of, _)| keep(of));
        if ONCE.get() {
            // Made without holding the lock, and dropped with its last user.
            drop(held);
            return Arc::new(make());
        }
        let packed = Arc::new(make());
        held.push((key, Arc::clone(&packed)));
        packed
    }
}

thread_local! {
    static ONCE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` without adding packed weights to the caches of this thread: in a training step each
/// form of a weight is used once before the weight changes, and those of a whole network take more
/// memory than the activations of a small batch.
pub(crate) fn once<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            ONCE.set(self.0);
        }
    }
    let _restore = Restore(ONCE.replace(true));
    f()
}

/// Whether packed weights are cached, that is, outside of [`once`].
pub(crate) fn keeps() -> bool {
    !ONCE.get()
}

/// Axes of a weight at most.
const AXES: usize = 6;

/// Where and how a weight lies, and how often it was written to: another one, another value, or a
/// view of other sizes differs in one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    at: usize,
    writes: i64,
    sizes: [i64; AXES],
    strides: [i64; AXES],
}

/// The weight's [`Version`].
///
/// # Panics
/// More than six axes.
pub(crate) fn version(weight: &Tensor) -> Version {
    let size = weight.size();
    assert!(size.len() <= AXES, "a weight: expected {AXES} axes at most, got shape {size:?}");
    let mut version = Version {
        at: weight.data_ptr() as usize,
        writes: weight.internal_version(),
        sizes: [-1; AXES],
        strides: [-1; AXES],
    };
    version.sizes[..size.len()].copy_from_slice(&size);
    version.strides[..size.len()].copy_from_slice(&weight.stride());
    version
}

/// The first value of a contiguous f32 tensor on the CPU.
pub(crate) fn pointer(x: &Tensor) -> *const f32 {
    x.data_ptr() as *const f32
}

/// As [`pointer`], null for None.
pub(crate) fn pointer_or_null(x: Option<&Tensor>) -> *const f32 {
    x.map_or(std::ptr::null(), pointer)
}

/// Target of the packed values.
struct To(*mut f32);

// SAFETY: threads write to separate memory.
unsafe impl Sync for To {}

/// As [`gemm::pack_columns`], with the panels divided among threads.
pub(crate) fn columns(
    isa: Isa,
    [k, n]: [usize; 2],
    at: impl Fn(usize, usize) -> f32 + Sync,
) -> Block {
    let lanes = isa.lanes();
    let width = 2 * lanes;
    let mut block = Block::new(gemm::packed_columns(lanes, k, n));
    let to = &To(block.as_mut_ptr());
    team(|member| {
        let panels = member.share(n.div_ceil(width));
        let (first, len) = (panels.start * width, panels.len() * width * k);
        // SAFETY: within the block, which is written in full; panels belong to this thread only.
        let values = unsafe { std::slice::from_raw_parts_mut(to.0.add(first * k), len) };
        let left = n.saturating_sub(first);
        gemm::pack_columns(lanes, [k, left], values, |i, j| at(i, first + j));
    });
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_once_is_not_held_and_what_is_held_is_found() {
        let cache: Cache<u32, u32> = Cache::default();
        let mut made = 0;
        let mut get = |key| {
            *cache.get(
                key,
                |of| *of != 1,
                || {
                    made += 1;
                    made
                },
            )
        };
        assert_eq!([once(|| get(1)), once(|| get(1)), get(1), get(1)], [1, 2, 3, 3]);
        assert_eq!(once(|| get(1)), 3);
        // Making an entry drops those that are not to be kept, whether it is cached itself or not.
        assert_eq!([once(|| get(2)), get(1)], [4, 5]);
    }
}
