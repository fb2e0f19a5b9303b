//! What kernels keep of weights.

use std::sync::{Arc, Mutex, PoisonError};

use tch::Tensor;
use vd_torch::team;

use super::{Block, Isa, gemm};

/// What was made of weights, kept until they change.
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
    /// What `make` has made for `key`; where it has to make it, whatever else is held and is not
    /// to be kept goes first.
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
        let packed = Arc::new(make());
        held.push((key, Arc::clone(&packed)));
        packed
    }
}

/// Where a weight lies, and how often it was written to: another one, or another value, differs in
/// one of the two.
pub(crate) type Version = (usize, i64);

/// The weight's [`Version`].
pub(crate) fn version(weight: &Tensor) -> Version {
    (weight.data_ptr() as usize, weight.internal_version())
}

/// The first value of a contiguous f32 tensor on the CPU.
pub(crate) fn pointer(x: &Tensor) -> *const f32 {
    x.data_ptr() as *const f32
}

/// As [`pointer`], null for none.
pub(crate) fn pointer_or_null(x: Option<&Tensor>) -> *const f32 {
    x.map_or(std::ptr::null(), pointer)
}

/// Where packed values go.
struct To(*mut f32);

// SAFETY: threads write apart from each other.
unsafe impl Sync for To {}

/// As [`gemm::pack_columns`], some panels by each thread.
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
        // SAFETY: within the block, which is written in full; panels are this thread's alone.
        let values = unsafe { std::slice::from_raw_parts_mut(to.0.add(first * k), len) };
        let left = n.saturating_sub(first);
        gemm::pack_columns(lanes, [k, left], values, |i, j| at(i, first + j));
    });
    block
}
