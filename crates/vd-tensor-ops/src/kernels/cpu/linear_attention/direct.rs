//! The form for few positions: values are computed, and the weights, which are larger than
//! everything else, are read once for many images.

use std::ops::Range;

use vd_torch::Member;

use super::pack::{Direct, Shape};
use super::product::{Panels, Product};
use super::sites::{GAP, normal_rows};
use super::sums::{Sums, exponentials};
use crate::kernels::cpu::paired::pair_along;
use crate::kernels::cpu::{Pairs, Scratch, Simd, Work, gemm};

/// Positions at a time, as many whole images as fit.
const BLOCK: usize = 336;

/// The whole attention: pointers and sizes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forward<'a> {
    pub(super) shape: Shape,
    pub(super) packed: &'a Direct,
    pub(super) bias: *const f32,
    pub(super) x: *const f32,
    pub(super) y: *mut f32,
    /// Memory shared by all threads.
    pub(super) shared: *mut f32,
}

// SAFETY: threads only read shared data, and write to separate memory.
unsafe impl Sync for Forward<'_> {}

/// Images at a time.
pub(super) fn block(shape: &Shape) -> usize {
    (BLOCK / shape.sites).clamp(1, shape.images)
}

/// Length of a row of normalised positions, and of a row of features.
pub(super) fn rows(shape: &Shape) -> (usize, usize) {
    (shape.c + GAP, Sums::width(shape) + GAP)
}

impl Forward<'_> {
    /// Length of `shared`.
    pub(super) fn shared_len(shape: &Shape) -> usize {
        let (normal, features) = rows(shape);
        block(shape) * shape.sites * (normal + 3 * features)
    }

    /// Normalised positions of a block; its queries, keys and values.
    fn buffers(&self) -> (*mut f32, [*mut f32; 3]) {
        let (normal, features) = rows(&self.shape);
        let sites = block(&self.shape) * self.shape.sites;
        // SAFETY: within the `shared_len` values.
        let part = |i: usize| unsafe { self.shared.add(sites * (normal + i * features)) };
        (self.shared, [part(0), part(1), part(2)])
    }
}

/// The work of one thread.
pub(super) struct Share<'a> {
    pub(super) all: &'a Forward<'a>,
    pub(super) member: Member<'a>,
}

impl Share<'_> {
    /// A product of f32 or of bf16 pairs, depending on the packed weights.
    #[inline(always)]
    unsafe fn product<S: Simd>(&self, product: Panels) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            if self.all.packed.pairs {
                Pairs::<S>::call(product);
            } else {
                S::call(product);
            }
        }
    }

    /// Normalises the positions `range` of a block, which begins with position `first`.
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, first: usize, range: Range<usize>) {
        let (c, row) = (self.all.shape.c, rows(&self.all.shape).0);
        // SAFETY: guaranteed by the caller; threads load separate positions.
        unsafe {
            let normal = self.all.buffers().0.add(range.start * row);
            let x = self.all.x.add((first + range.start) * c);
            normal_rows::<S>(x, (normal, row), (range.len(), c));
            if self.all.packed.pairs {
                for site in 0..range.len() {
                    let normal = normal.add(site * row);
                    pair_along::<S>(normal, normal, c);
                }
            }
        }
    }

    /// Some panels of the queries, keys and values of `count` positions.
    #[inline(always)]
    unsafe fn project<S: Simd>(&self, count: usize) {
        let shape = &self.all.shape;
        let (normal, features) = rows(shape);
        let (from, to) = self.all.buffers();
        let (width, channels) = (gemm::panel::<S>(), self.all.packed.steps[0]);
        let panels = shape.inner().div_ceil(width);
        for task in self.member.share(3 * panels) {
            let (part, panel) = (task / panels, task % panels);
            // SAFETY: guaranteed by the caller; threads write separate panels.
            unsafe {
                let b = self.all.packed.qkv[part].as_ptr().add(panel * width * channels);
                let c = (to[part].add(panel * width), features);
                let a = (from.cast_const(), normal, 1);
                let shape = [count, width, channels];
                self.product::<S>(Panels { a, b, c, shape, add: false });
            }
        }
    }

    /// The attention of image `image` of a block; overwrites its keys.
    #[inline(always)]
    unsafe fn attend<S: Simd>(&self, image: usize, context: *mut f32, sums: Sums) {
        let shape = &self.all.shape;
        let Shape { sites, heads, dim, .. } = *shape;
        let (inner, row, each) = (shape.inner(), rows(shape).1, dim.next_multiple_of(S::LANES));
        // SAFETY: guaranteed by the caller. A vector of features that extends beyond its head is
        // overwritten by the next head, or ends in the gap between rows.
        unsafe {
            let [q, k, v] = self.all.buffers().1.map(|part| part.add(image * sites * row));
            for n in (0..inner).step_by(S::LANES) {
                exponentials::<S>((k.add(n), row), sites, (sums, n), false);
            }
            for head in 0..heads {
                let (first, context) = (head * dim, context.add(head * dim * each));
                let a = (k.add(first).cast_const(), 1, row);
                let b = (v.add(first).cast_const(), row);
                let size = [dim, dim, sites];
                S::call(Product { a, b, c: (context, each), shape: size, add: false });
                for d in 0..dim {
                    let share = S::splat(1.0 / *sums.total.add(first + d));
                    for e in (0..each).step_by(S::LANES) {
                        let at = context.add(d * each + e);
                        S::store(at, S::mul(S::load(at), share));
                    }
                }
                for site in 0..sites {
                    softmax::<S>(q.add(site * row + first), dim);
                }
            }
            for head in 0..heads {
                let (first, context) = (head * dim, context.add(head * dim * each));
                let (a, b) = ((q.add(first).cast_const(), row, 1), (context.cast_const(), each));
                let size = [sites, dim, dim];
                S::call(Product { a, b, c: (k.add(first), row), shape: size, add: false });
            }
            if self.all.packed.pairs {
                // Whole pairs of vectors: the features are padded with zeros.
                let whole = inner.next_multiple_of(2 * S::LANES);
                for site in 0..sites {
                    let k = k.add(site * row);
                    k.add(inner).write_bytes(0, whole - inner);
                    pair_along::<S>(k, k, whole);
                }
            }
        }
    }

    /// Some panels of the channels of the positions `first..first + count`.
    #[inline(always)]
    unsafe fn output<S: Simd>(&self, (first, count): (usize, usize), rows_out: *mut f32) {
        let shape = &self.all.shape;
        let (c, inner, width) = (shape.c, self.all.packed.steps[1], gemm::panel::<S>());
        let (_, [_, from, _]) = self.all.buffers();
        for panel in self.member.share(c.div_ceil(width)) {
            // SAFETY: guaranteed by the caller; threads write separate panels.
            unsafe {
                let b = self.all.packed.out.as_ptr().add(panel * width * inner);
                let (a, to) = ((from.cast_const(), rows(shape).1, 1), (rows_out, width));
                let product = Panels { a, b, c: to, shape: [count, width, inner], add: false };
                self.product::<S>(product);
                let columns = width.min(c - panel * width);
                for site in 0..count {
                    let at = (first + site) * c + panel * width;
                    for k in (0..columns).step_by(S::LANES) {
                        let bias = S::load(self.all.bias.add(panel * width + k));
                        let before = S::add(S::load(self.all.x.add(at + k)), bias);
                        let more = S::load(rows_out.add(site * width + k));
                        S::store(self.all.y.add(at + k), S::add(before, more));
                    }
                }
            }
        }
    }
}

impl Work for Share<'_> {
    type Out = ();
    const PAIRS: bool = true;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (shape, member) = (&self.all.shape, self.member);
        let Shape { images, sites, heads, dim, .. } = *shape;
        let block = block(shape);
        let size = heads * dim * dim.next_multiple_of(S::LANES);
        let mut context = Scratch::take(size);
        let mut sums = Scratch::take(2 * Sums::width(shape));
        let mut out = Scratch::take(block * sites * gemm::panel::<S>());
        let (context, top, out) = (context.as_mut_ptr(), sums.as_mut_ptr(), out.as_mut_ptr());
        // SAFETY: guaranteed by the caller; between barriers threads write to separate memory, and
        // do not write what others read.
        unsafe {
            let sums = Sums { sums: context, top, total: top.add(Sums::width(shape)) };
            for first in (0..images).step_by(block) {
                let count = block.min(images - first);
                self.load::<S>(first * sites, member.share(count * sites));
                member.barrier();
                self.project::<S>(count * sites);
                member.barrier();
                for image in member.share(count) {
                    self.attend::<S>(image, context, sums);
                }
                member.barrier();
                self.output::<S>((first * sites, count * sites), out);
            }
        }
    }
}

/// Softmax of `count` adjacent values.
///
/// # Safety
/// As [`Simd`]; `x` is valid for `count` values.
#[inline(always)]
pub(super) unsafe fn softmax<S: Simd>(x: *mut f32, count: usize) {
    let (whole, rest) = (count / S::LANES * S::LANES, count % S::LANES);
    let mut tail = [f32::NEG_INFINITY; 16];
    // SAFETY: guaranteed by the caller; no set has more lanes than the tail.
    unsafe {
        std::ptr::copy_nonoverlapping(x.add(whole), tail.as_mut_ptr(), rest);
        let last = S::load(tail.as_ptr());
        let mut top = last;
        for d in (0..whole).step_by(S::LANES) {
            top = S::max(top, S::load(x.add(d)));
        }
        let top = S::splat(S::largest(top));
        let mut sum = S::zero();
        for d in (0..whole).step_by(S::LANES) {
            let e = S::exp(S::sub(S::load(x.add(d)), top));
            sum = S::add(sum, e);
            S::store(x.add(d), e);
        }
        S::store(tail.as_mut_ptr(), S::exp(S::sub(last, top)));
        let total = S::sum(sum) + tail[..rest].iter().sum::<f32>();
        let share = 1.0 / total;
        for d in (0..whole).step_by(S::LANES) {
            S::store(x.add(d), S::mul(S::load(x.add(d)), S::splat(share)));
        }
        for (d, e) in tail[..rest].iter().enumerate() {
            *x.add(whole + d) = e * share;
        }
    }
}
