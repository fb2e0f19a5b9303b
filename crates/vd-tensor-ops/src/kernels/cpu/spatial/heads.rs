//! A head over some queries of an image: lanes are queries, keys come in blocks.

use super::pack::Shape;
use super::sites::{columns, rows};
use crate::kernels::cpu::linear_attention::product::Product;
use crate::kernels::cpu::{Simd, gemm};

/// Panels of queries at a time.
const PANELS: usize = 2;

/// Queries at a time.
#[inline(always)]
pub(super) fn queries<S: Simd>() -> usize {
    PANELS * gemm::panel::<S>()
}

/// Queries, keys and values of a head of an image, and the bias on its scores.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) q: *const f32,
    pub(super) k: *const f32,
    pub(super) v: *const f32,
    /// Stride between positions.
    pub(super) row: usize,
    pub(super) sites: usize,
    /// Features, rounded up to whole vectors.
    pub(super) wide: usize,
    pub(super) bias: Bias,
}

/// The bias on the scores of a head: a row for each key, with adjacent queries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bias {
    /// Null without a bias.
    pub(super) at: *const f32,
    /// Stride between keys: the number of queries rounded up to whole panels.
    pub(super) row: usize,
}

impl Bias {
    /// The bias of one head.
    pub(super) fn of(self, head: usize, sites: usize) -> Self {
        if self.at.is_null() {
            return self;
        }
        // SAFETY: there is one for each head.
        Bias { at: unsafe { self.at.add(head * sites * self.row) }, ..self }
    }
}

impl Head {
    /// Head `head` of the image whose queries, keys and values start at `qkv`.
    ///
    /// # Safety
    /// `qkv` is valid for the shape.
    pub(super) unsafe fn new(
        shape: &Shape,
        (qkv, row): (*const f32, usize),
        head: usize,
        bias: Bias,
    ) -> Self {
        let Shape { sites, wide, .. } = *shape;
        // SAFETY: guaranteed by the caller.
        let [q, k, v] =
            [0, 1, 2].map(|part| unsafe { qkv.add(part * shape.features() + head * wide) });
        Head { q, k, v, row, sites, wide, bias: bias.of(head, sites) }
    }
}

/// A thread's memory for some queries; rows have room for [`queries`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Buffers {
    /// Queries, a row for each feature.
    q: *mut f32,
    /// The output, a row for each feature.
    pub(super) out: *mut f32,
    /// Scores, then their exponentials, a row for each key of a block.
    pub(super) scores: *mut f32,
    /// The maximum score of each query.
    pub(super) top: *mut f32,
    /// The sum of its exponentials, then its inverse.
    pub(super) share: *mut f32,
    /// Keys at a time.
    pub(super) keys: usize,
}

impl Buffers {
    pub(super) fn len<S: Simd>(wide: usize, keys: usize) -> usize {
        (2 * wide + keys + 2) * queries::<S>()
    }

    /// # Safety
    /// `at` is valid for [`Buffers::len`] values.
    pub(super) unsafe fn new<S: Simd>(at: *mut f32, wide: usize, keys: usize) -> Self {
        // SAFETY: guaranteed by the caller.
        let row = |i: usize| unsafe { at.add(i * queries::<S>()) };
        let (q, out, scores) = (row(0), row(wide), row(2 * wide));
        let (top, share) = (row(2 * wide + keys), row(2 * wide + keys + 1));
        Buffers { q, out, scores, top, share, keys }
    }
}

/// A range of queries: the first, and how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queries {
    pub(super) first: usize,
    pub(super) count: usize,
}

impl Queries {
    /// Block `i` of the queries of an image.
    #[inline(always)]
    pub(super) fn block<S: Simd>(i: usize, sites: usize) -> Self {
        let first = i * queries::<S>();
        Queries { first, count: queries::<S>().min(sites - first) }
    }

    /// Their number rounded up to whole panels.
    #[inline(always)]
    pub(super) fn columns<S: Simd>(self) -> usize {
        self.count.next_multiple_of(gemm::panel::<S>())
    }
}

impl Head {
    /// Scores of the queries in the buffers with `count` keys from `key` on.
    #[inline(always)]
    pub(super) unsafe fn scores<S: Simd>(
        &self,
        b: &Buffers,
        queries: Queries,
        (key, count): (usize, usize),
    ) {
        let (width, columns) = (self::queries::<S>(), queries.columns::<S>());
        // SAFETY: guaranteed by the caller.
        unsafe {
            let a = (self.k.add(key * self.row), self.row, 1);
            let (q, c) = ((b.q.cast_const(), width), (b.scores, width));
            let shape = [count, columns, self.wide];
            S::call(Product { a, b: q, c, shape, add: false });
            if self.bias.at.is_null() {
                return;
            }
            for i in 0..count {
                let bias = self.bias.at.add((key + i) * self.bias.row + queries.first);
                let scores = b.scores.add(i * width);
                for z in (0..columns).step_by(S::LANES) {
                    let sum = S::add(S::load(scores.add(z)), S::load(bias.add(z)));
                    S::store(scores.add(z), sum);
                }
            }
        }
    }

    /// The head's output for some queries, into `b.out`; if one block holds all keys, its
    /// exponentials stay in `b.scores`.
    ///
    /// # Safety
    /// As [`Simd`]; the pointers are valid for the sizes, and there is at least one query.
    #[inline(always)]
    pub(super) unsafe fn attend<S: Simd>(&self, b: &Buffers, queries: Queries) {
        let (width, panel) = (self::queries::<S>(), gemm::panel::<S>());
        let (wide, of) = (self.wide, queries.columns::<S>());
        // SAFETY: guaranteed by the caller.
        unsafe {
            let q = (self.q.add(queries.first * self.row), self.row);
            columns::<S>(q, (queries.count, wide), (b.q, width), of);
            for key in (0..self.sites).step_by(b.keys) {
                let (count, more) = (b.keys.min(self.sites - key), key > 0);
                self.scores::<S>(b, queries, (key, count));
                for first in (0..of).step_by(panel) {
                    exponentials::<S>(b, first, (count, wide), more);
                }
                let a = (self.v.add(key * self.row), 1, self.row);
                let (e, c) = ((b.scores.cast_const(), width), (b.out, width));
                S::call(Product { a, b: e, c, shape: [wide, of, count], add: more });
            }
            for z in (0..of).step_by(S::LANES) {
                let share = S::div(S::splat(1.0), S::load(b.share.add(z)));
                S::store(b.share.add(z), share);
                for d in 0..wide {
                    let at = b.out.add(d * width + z);
                    S::store(at, S::mul(S::load(at), share));
                }
            }
        }
    }

    /// The same, as rows of positions `row` apart.
    ///
    /// # Safety
    /// As [`Head::attend`]; `to` is valid for the queries' rows.
    #[inline(always)]
    pub(super) unsafe fn attend_rows<S: Simd>(
        &self,
        b: &Buffers,
        queries: Queries,
        to: (*mut f32, usize),
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            self.attend::<S>(b, queries);
            let out = (b.out.cast_const(), self::queries::<S>());
            rows::<S>(out, (queries.count, self.wide), to);
        }
    }
}

/// Replaces scores of a panel of queries from `first` on by exponentials relative to the running
/// maximum, and rescales the output so far accordingly.
#[inline(always)]
unsafe fn exponentials<S: Simd>(
    b: &Buffers,
    first: usize,
    (keys, wide): (usize, usize),
    more: bool,
) {
    let width = queries::<S>();
    // SAFETY: guaranteed by the caller.
    unsafe {
        let [scores, out, tops, totals] = [b.scores, b.out, b.top, b.share].map(|at| at.add(first));
        let mut top = [S::load(scores), S::load(scores.add(S::LANES))];
        for key in 1..keys {
            for (z, top) in top.iter_mut().enumerate() {
                *top = S::max(*top, S::load(scores.add(key * width + z * S::LANES)));
            }
        }
        let mut total = [S::zero(); 2];
        if more {
            for z in 0..2 {
                let before = S::load(tops.add(z * S::LANES));
                top[z] = S::max(top[z], before);
                let factor = S::exp(S::sub(before, top[z]));
                total[z] = S::mul(S::load(totals.add(z * S::LANES)), factor);
                for d in 0..wide {
                    let at = out.add(d * width + z * S::LANES);
                    S::store(at, S::mul(S::load(at), factor));
                }
            }
        }
        for key in 0..keys {
            for z in 0..2 {
                let at = scores.add(key * width + z * S::LANES);
                let e = S::exp(S::sub(S::load(at), top[z]));
                total[z] = S::add(total[z], e);
                S::store(at, e);
            }
        }
        for z in 0..2 {
            S::store(tops.add(z * S::LANES), top[z]);
            S::store(totals.add(z * S::LANES), total[z]);
        }
    }
}
