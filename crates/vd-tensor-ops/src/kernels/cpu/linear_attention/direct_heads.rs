//! The gradients of the features of a head, for an image of few positions.

use super::pack::Shape;
use super::product::Product;
use crate::kernels::cpu::{Simd, Work};

/// A thread's memory for a head.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    at: *mut f32,
    sites: usize,
    dim: usize,
}

impl Heads {
    /// Length of a row: whole vectors of every instruction set.
    fn row(dim: usize) -> usize {
        dim.next_multiple_of(16)
    }

    /// Number of values that it needs.
    pub(super) fn len(shape: &Shape) -> usize {
        4 * (shape.dim + shape.sites) * Self::row(shape.dim)
    }

    /// # Safety
    /// `at` is valid for [`Heads::len`] values.
    pub(super) unsafe fn new(shape: &Shape, at: *mut f32) -> Self {
        Heads { at, sites: shape.sites, dim: shape.dim }
    }

    /// Given the softmax of queries, that of keys, values, and the gradient of the head's output,
    /// replaces them by the gradients of queries, keys and values, and the head's output.
    ///
    /// # Safety
    /// As [`Simd`]; each is valid for a row of whole vectors for each position, `row` apart.
    #[inline(always)]
    pub(super) unsafe fn gradients<S: Simd>(&self, of: [*mut f32; 4], row: usize) {
        let (sites, dim, width) = (self.sites, self.dim, Self::row(self.dim));
        let [q, k, v, g] = of.map(<*mut f32>::cast_const);
        // SAFETY: guaranteed by the caller, and `new`'s. Columns beyond the head's are never read
        // back.
        unsafe {
            // The context k^T v and its gradient q^T g, each as it is and transposed.
            let square = [0, 1, 2, 3].map(|i| self.at.add(i * dim * width));
            for (to, (a, b)) in square.into_iter().zip([(k, v), (v, k), (q, g), (g, q)]) {
                let size = [dim, dim, sites];
                let (a, b) = ((a, 1, row), (b, row));
                S::call(Product { a, b, c: (to, width), shape: size, add: false });
            }
            // Rows of positions: of queries, keys, values, and of the head's output.
            let square = square.map(<*mut f32>::cast_const);
            let made = [0, 1, 2, 3].map(|i| self.at.add((4 * dim + i * sites) * width));
            let by = [(g, square[1]), (v, square[3]), (k, square[2]), (q, square[0])];
            for (to, (a, b)) in made.into_iter().zip(by) {
                let size = [sites, dim, dim];
                let (a, b) = ((a, row, 1), (b, width));
                S::call(Product { a, b, c: (to, width), shape: size, add: false });
            }
            S::call(Softmaxes { q, k, row, grads: [made[0], made[1]], size: [sites, dim, width] });
            for (from, to) in made.into_iter().zip(of) {
                for site in 0..sites {
                    let (from, to) = (from.add(site * width), to.add(site * row));
                    std::ptr::copy_nonoverlapping(from, to, dim);
                }
            }
        }
    }
}

/// Converts gradients of the softmaxes of queries and keys to those of queries and keys, in place.
struct Softmaxes {
    /// The softmaxes.
    q: *const f32,
    k: *const f32,
    row: usize,
    grads: [*mut f32; 2],
    /// Positions, features, and the distance between rows of the gradients.
    size: [usize; 3],
}

impl Work for Softmaxes {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Softmaxes { q, k, row, grads: [q_grad, k_grad], size: [sites, dim, width] } = self;
        let whole = dim / S::LANES * S::LANES;
        // SAFETY: guaranteed by the caller.
        unsafe {
            for site in 0..sites {
                let (q, grad) = (q.add(site * row), q_grad.add(site * width));
                let mut along = S::zero();
                for d in (0..whole).step_by(S::LANES) {
                    along = S::fma(S::load(q.add(d)), S::load(grad.add(d)), along);
                }
                let mut mean = S::sum(along);
                for d in whole..dim {
                    mean += *q.add(d) * *grad.add(d);
                }
                let means = S::splat(mean);
                for d in (0..whole).step_by(S::LANES) {
                    let off = S::sub(S::load(grad.add(d)), means);
                    S::store(grad.add(d), S::mul(S::load(q.add(d)), off));
                }
                for d in whole..dim {
                    *grad.add(d) = *q.add(d) * (*grad.add(d) - mean);
                }
            }
            for d in (0..dim).step_by(S::LANES) {
                let mut mean = S::zero();
                for site in 0..sites {
                    let (k, grad) = (k.add(site * row + d), k_grad.add(site * width + d));
                    mean = S::fma(S::load(k), S::load(grad), mean);
                }
                for site in 0..sites {
                    let (k, grad) = (k.add(site * row + d), k_grad.add(site * width + d));
                    S::store(grad, S::mul(S::load(k), S::sub(S::load(grad), mean)));
                }
            }
        }
    }
}
