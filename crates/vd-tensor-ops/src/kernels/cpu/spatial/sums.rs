//! Sums over positions from which the gradients of the weights are made.

use vd_torch::Member;

use super::pack::{Shape, Weights};
use crate::kernels::cpu::Simd;

/// Pointers to the sums, including padding features.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sums {
    /// Gradients of queries, keys and values times normalised positions: rows of c.
    pub(super) qkv: *mut f32,
    /// Gradients of the output times the heads' outputs: c rows of features.
    pub(super) out: *mut f32,
}

impl Sums {
    pub(super) fn len(shape: &Shape) -> usize {
        4 * shape.features() * shape.c
    }

    /// Sums that start at `at`, which is valid for [`Sums::len`] values.
    pub(super) fn new(shape: &Shape, at: *mut f32) -> Self {
        // SAFETY: within the `len` values that `at` is valid for.
        Sums { qkv: at, out: unsafe { at.add(3 * shape.features() * shape.c) } }
    }
}

/// Where to write the gradients of the weights, contiguous.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gradients<'a> {
    /// The weights themselves.
    pub(super) weights: Weights<'a>,
    /// c, zeros
    pub(super) gamma: *mut f32,
    /// (3 n d) c
    pub(super) to_qkv: *mut f32,
    /// c (n d)
    pub(super) to_out: *mut f32,
}

impl Gradients<'_> {
    /// Removes gain and scale from the sums; threads divide the channels.
    ///
    /// # Safety
    /// As [`Simd`]; the pointers are valid for the shape, and nobody writes to the sums any more.
    #[inline(always)]
    pub(super) unsafe fn take<S: Simd>(&self, shape: &Shape, sums: &Sums, member: &Member<'_>) {
        let Shape { c, dim, wide, heads, .. } = *shape;
        let (inner, features) = (shape.inner(), shape.features());
        let (gamma, qkv) = (self.weights.gamma.as_ptr(), self.weights.qkv.as_ptr());
        let mine = member.share(c / S::LANES);
        let mine = mine.start * S::LANES..mine.end * S::LANES;
        for row in 0..3 * inner {
            let (part, head, d) = (row / inner, row % inner / dim, row % dim);
            let scale = if part == 0 { shape.scale() } else { 1.0 };
            for k in mine.clone().step_by(S::LANES) {
                // SAFETY: guaranteed by the caller; `row` is one of the weights, and so has its
                // sums.
                unsafe {
                    let sum = sums.qkv.add((part * features + head * wide + d) * c + k);
                    let sum = S::mul(S::load(sum), S::splat(scale));
                    let gain = self.gamma.add(k);
                    let weight = S::load(qkv.add(row * c + k));
                    S::store(gain, S::fma(sum, weight, S::load(gain)));
                    let grad = S::mul(sum, S::load(gamma.add(k)));
                    S::store(self.to_qkv.add(row * c + k), grad);
                }
            }
        }
        for (k, head) in mine.flat_map(|k| (0..heads).map(move |head| (k, head))) {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let from = sums.out.add(k * features + head * wide);
                let to = self.to_out.add(k * inner + head * dim);
                std::ptr::copy_nonoverlapping(from, to, dim);
            }
        }
    }
}
