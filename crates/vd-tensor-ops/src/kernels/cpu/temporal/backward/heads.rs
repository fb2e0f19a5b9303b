//! A head's part of the backward.

use std::ops::Range;

use super::{Share, Unit};
use crate::kernels::cpu::Simd;
use crate::kernels::cpu::temporal::distances::Spread;
use crate::kernels::cpu::temporal::lanes::turn;
use crate::kernels::cpu::temporal::pack::Sizes;
use crate::kernels::cpu::temporal::products::{Dots, Grid, Outer, Product};

/// A thread's memory for a head.
#[derive(Clone, Copy)]
pub(super) struct Buffers {
    /// Queries, keys and values, and their gradient.
    pub(super) qkv: *mut f32,
    pub(super) d_qkv: *mut f32,
    /// The head's output, and its gradient.
    pub(super) out: *mut f32,
    pub(super) d_out: *mut f32,
    /// Weights, and the gradient of scores, of a vector of positions.
    pub(super) weights: *mut f32,
    pub(super) scores: *mut f32,
    /// Gradient of the normalised input.
    pub(super) dx: *mut f32,
    /// This thread's sums.
    pub(super) sums: *mut f32,
    /// A vector for each entry of both tables of distances.
    pub(super) distances: *mut f32,
}

impl Share<'_> {
    /// The gradient of one vector of positions of a head, down to the rotated queries and keys and
    /// the values.
    #[inline(always)]
    unsafe fn attend<S: Simd>(&self, b: Buffers, (head, sample, z): (usize, usize, usize)) {
        let (problem, l, dim) = (self.problem, &self.layout, self.problem.sizes().dim);
        let f = l.frames;
        // SAFETY: guaranteed by the caller.
        unsafe {
            let part = |of: *mut f32, i: usize| of.add(i * dim * l.row + z * S::LANES).cast_const();
            let [q, k, v] = [0, 1, 2].map(|i| part(b.qkv, i));
            let [dq, dk, dv] = [0, 1, 2].map(|i| part(b.d_qkv, i).cast_mut());
            let (out, d_out) = (part(b.out, 0).cast_mut(), part(b.d_out, 0));
            problem.weigh::<S>(l, (head, sample), (q, k), (0, f), b.weights);
            problem.mix::<S>(l, (b.weights, v), (0, f), out);
            let frames = |at| Grid { at, row: l.frame, step: l.row };
            let features = |at| Grid { at, row: l.row, step: l.frame };
            let queries = |at| Grid { at, row: f * S::LANES, step: S::LANES };
            let keys = |at: *const f32| Grid { at, row: S::LANES, step: f * S::LANES };
            let to = |at| Grid { at, row: l.frame, step: l.row };
            let scores = Grid { at: b.scores, row: f * S::LANES, step: S::LANES };
            let (a, from) = (keys(b.weights), features(d_out));
            S::call(Dots { a, b: from, c: to(dv), shape: [f, dim, f] });
            S::call(Dots { a: frames(d_out), b: frames(v), c: scores, shape: [f, f, dim] });
            if let Some(distances) = problem.distances {
                problem.score_distances::<S>(l, (d_out, distances.values), (0, f), b.scores);
            }
            self.scores::<S>(b, head);
            let (a, from) = (queries(b.scores.cast_const()), features(k));
            S::call(Dots { a, b: from, c: to(dq), shape: [f, dim, f] });
            let (a, from) = (keys(b.scores), features(q));
            S::call(Dots { a, b: from, c: to(dk), shape: [f, dim, f] });
            if let Some(distances) = problem.distances {
                problem.mix_distances::<S>(l, (b.scores, distances.keys), (0, f), dq);
                let spread = |a: *mut f32, from, c| Spread {
                    a: a.cast_const(),
                    b: frames(from),
                    c,
                    shape: [f, dim],
                };
                S::call(spread(b.scores, q, b.distances));
                let values = b.distances.add((2 * f - 1) * dim * S::LANES);
                S::call(spread(b.weights, d_out, values));
            }
        }
    }

    /// Converts the gradient of weights to that of scores, which is also that of the biases.
    #[inline(always)]
    unsafe fn scores<S: Simd>(&self, b: Buffers, head: usize) {
        let f = self.layout.frames;
        // SAFETY: guaranteed by the caller.
        unsafe {
            let bias = b.sums.add(self.parts.bias + head * f * f);
            for i in 0..f {
                let at = |j: usize| (i * f + j) * S::LANES;
                let mut along = S::zero();
                for j in 0..f {
                    let (w, d) = (S::load(b.weights.add(at(j))), S::load(b.scores.add(at(j))));
                    along = S::fma(w, d, along);
                }
                for j in 0..f {
                    let (w, d) = (S::load(b.weights.add(at(j))), S::load(b.scores.add(at(j))));
                    let d = S::mul(w, S::sub(d, along));
                    S::store(b.scores.add(at(j)), d);
                    if self.gradient.bias.is_some() {
                        *bias.add(i * f + j) += S::sum(d);
                    }
                }
            }
        }
    }

    /// Some heads of a unit: their part of the gradient of the normalised input, and of the sums.
    ///
    /// # Safety
    /// As [`Simd`]; the matrices are those of a unit, the buffers those of a thread.
    #[inline(always)]
    pub(super) unsafe fn heads<S: Simd>(
        &self,
        from: Unit,
        b: Buffers,
        unit: usize,
        heads: Range<usize>,
    ) {
        let (problem, l) = (self.problem, &self.layout);
        let Sizes { channels, dim, .. } = problem.sizes();
        let (three, back, line) = (3 * dim, self.gradient.back, l.line(channels));
        // SAFETY: guaranteed by the caller.
        unsafe {
            b.dx.write_bytes(0, channels * l.row);
            for head in heads {
                problem.project::<S>(l, (from.x, problem.packed.head(head)), b.qkv);
                let product = |a, b: *mut f32, c, shape, add| Product {
                    a,
                    b: (b.cast_const(), l.row),
                    c: (c, l.row),
                    shape,
                    columns: l.columns,
                    add,
                };
                S::call(product(back.out_of(head), from.grad, b.d_out, (dim, channels), false));
                for z in 0..l.wide {
                    self.attend::<S>(b, (head, l.place(unit).0, z));
                }
                for first in [0, dim] {
                    let rows = (b.d_qkv.add(first * l.row), l.row);
                    turn::<S>(rows, (l.frames, l.wide), problem.turns, true);
                }
                S::call(product(back.head(head), b.d_qkv, b.dx, (channels, three), true));
                let sum = |a: *mut f32, b: *mut f32, c, rows| Outer {
                    a: (a.cast_const(), l.row),
                    b: (b.cast_const(), line),
                    c: (c, channels),
                    shape: [rows, channels, l.columns],
                };
                let to_qkv = b.sums.add(head * three * channels);
                S::call(sum(b.d_qkv, from.x_rows, to_qkv, three));
                let to_out = b.sums.add(self.parts.to_out + head * dim * channels);
                S::call(sum(b.out, from.grad_rows, to_out, dim));
            }
        }
    }
}
