//! The gradient of a head over some queries of an image.

use super::heads::{Buffers, Head, Queries, queries};
use super::sites::{columns, rows};
use crate::kernels::cpu::Simd;
use crate::kernels::cpu::linear_attention::product::Product;

/// Inputs and outputs of a head's gradient besides the head itself; all positions of an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadGrad {
    /// The head's output.
    pub(super) out: *mut f32,
    /// Its gradient.
    pub(super) out_grad: *const f32,
    /// Stride between positions of both.
    pub(super) out_row: usize,
    /// Gradients of queries, keys and values; their rows have the head's stride.
    pub(super) q: *mut f32,
    pub(super) k: *mut f32,
    pub(super) v: *mut f32,
    /// Gradient of the bias, accumulated, with the layout of the bias, or null.
    pub(super) bias: *mut f32,
}

/// Additional memory of a thread for some queries; rows have room for [`queries`].
#[derive(Debug, Clone, Copy)]
pub(super) struct GradBuffers {
    pub(super) head: Buffers,
    /// Gradients of the output, and of the queries: a row for each feature.
    out_grad: *mut f32,
    q_grad: *mut f32,
    /// Gradients of the scores, a row for each key of a block.
    scores: *mut f32,
    /// The output times its gradient, summed over features.
    along: *mut f32,
}

impl GradBuffers {
    pub(super) fn len<S: Simd>(wide: usize, keys: usize) -> usize {
        Buffers::len::<S>(wide, keys) + (2 * wide + keys + 1) * queries::<S>()
    }

    /// # Safety
    /// `at` is valid for [`GradBuffers::len`] values.
    pub(super) unsafe fn new<S: Simd>(at: *mut f32, wide: usize, keys: usize) -> Self {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let head = Buffers::new::<S>(at, wide, keys);
            let more = at.add(Buffers::len::<S>(wide, keys));
            let row = |i: usize| more.add(i * queries::<S>());
            let (scores, along) = (row(2 * wide), row(2 * wide + keys));
            GradBuffers { head, out_grad: row(0), q_grad: row(wide), scores, along }
        }
    }
}

impl Head {
    /// The gradients from some queries, and the head's output for them. Those of keys and values
    /// are accumulated, except for the first queries.
    ///
    /// # Safety
    /// As [`Head::attend`]; the pointers of `of` are valid for all positions.
    #[inline(always)]
    pub(super) unsafe fn gradient<S: Simd>(&self, b: &GradBuffers, of: &HeadGrad, at: Queries) {
        let (width, wide, Queries { first, count }) = (queries::<S>(), self.wide, at);
        // SAFETY: guaranteed by the caller.
        unsafe {
            let to = (of.out.add(first * of.out_row), of.out_row);
            self.attend_rows::<S>(&b.head, at, to);
            let out_grad = (of.out_grad.add(first * of.out_row), of.out_row);
            let all = at.columns::<S>();
            columns::<S>(out_grad, (count, wide), (b.out_grad, width), all);
            along::<S>(b, wide, all);
            for key in (0..self.sites).step_by(b.head.keys) {
                self.keys_gradient::<S>(b, of, at, key);
            }
            let to = (of.q.add(first * self.row), self.row);
            rows::<S>((b.q_grad.cast_const(), width), (count, wide), to);
        }
    }

    /// The same for a block of keys from `key` on.
    #[inline(always)]
    unsafe fn keys_gradient<S: Simd>(
        &self,
        b: &GradBuffers,
        of: &HeadGrad,
        queries: Queries,
        key: usize,
    ) {
        let (row, wide, keys) = (self.row, self.wide, b.head.keys);
        let (width, columns) = (self::queries::<S>(), queries.columns::<S>());
        let (n, all) = (keys.min(self.sites - key), queries.count);
        let (e, scores) = (b.head.scores.cast_const(), b.scores.cast_const());
        let add = queries.first > 0;
        // SAFETY: guaranteed by the caller.
        unsafe {
            let again = self.sites > keys;
            if again {
                self.scores::<S>(&b.head, queries, (key, n));
            }
            let (a, to) = ((self.v.add(key * row), row, 1), (b.out_grad.cast_const(), width));
            let c = (b.scores, width);
            S::call(Product { a, b: to, c, shape: [n, columns, wide], add: false });
            let bias = if of.bias.is_null() {
                of.bias
            } else {
                of.bias.add(key * self.bias.row + queries.first)
            };
            scores_gradient::<S>(b, (n, columns), (again, bias, self.bias.row));
            // Padding columns of the last panel are excluded from sums.
            let from = (of.out_grad.add(queries.first * of.out_row), of.out_row);
            let (a, c) = ((e, width, 1), (of.v.add(key * row), row));
            S::call(Product { a, b: from, c, shape: [n, wide, all], add });
            let from = (self.q.add(queries.first * row), row);
            let (a, c) = ((scores, width, 1), (of.k.add(key * row), row));
            S::call(Product { a, b: from, c, shape: [n, wide, all], add });
            let (a, c) = ((self.k.add(key * row), 1, row), (b.q_grad, width));
            let from = (scores, width);
            S::call(Product { a, b: from, c, shape: [wide, columns, n], add: key > 0 });
        }
    }
}

/// The output times its gradient, summed over features.
#[inline(always)]
unsafe fn along<S: Simd>(b: &GradBuffers, wide: usize, columns: usize) {
    let width = queries::<S>();
    for z in (0..columns).step_by(S::LANES) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let mut sum = S::zero();
            for at in (0..wide).map(|d| d * width + z) {
                sum = S::fma(S::load(b.head.out.add(at)), S::load(b.out_grad.add(at)), sum);
            }
            S::store(b.along.add(z), sum);
        }
    }
}

/// Replaces scores, or their exponentials, by weights, and gradients of weights by those of scores,
/// which are also added to those of the bias.
#[inline(always)]
unsafe fn scores_gradient<S: Simd>(
    b: &GradBuffers,
    (keys, columns): (usize, usize),
    (again, bias, row): (bool, *mut f32, usize),
) {
    let width = queries::<S>();
    for z in (0..columns).step_by(S::LANES) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let [top, share, along] =
                [b.head.top, b.head.share, b.along].map(|at| S::load(at.add(z)));
            for key in 0..keys {
                let [weight, grad] = [b.head.scores, b.scores].map(|at| at.add(key * width + z));
                let mut e = S::load(weight);
                if again {
                    e = S::exp(S::sub(e, top));
                }
                let p = S::mul(e, share);
                S::store(weight, p);
                let d = S::mul(p, S::sub(S::load(grad), along));
                S::store(grad, d);
                if !bias.is_null() {
                    let bias = bias.add(key * row + z);
                    S::store(bias, S::add(S::load(bias), d));
                }
            }
        }
    }
}
