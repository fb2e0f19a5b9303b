//! The form for many positions: values are never computed.
//!
//! S = softmax over positions(k)^T x, one row of channels for each feature of a key; the value and
//! output projections are folded into it for each image, M = Wo (S Wv^T)^T; then y = M softmax(q).

use vd_torch::Member;

use super::pack::{Folded, Shape};
use super::product::{Panels, Product, Stack};
use super::sites::{add_columns, columns, normal_columns, softmax_columns};
use super::sums::{PART, Sums, keys, merge};
use crate::kernels::cpu::paired::pair_rows;
use crate::kernels::cpu::{Pairs, Scratch, Simd, Work, gemm};

/// The whole attention: pointers and sizes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forward<'a> {
    pub(super) shape: Shape,
    pub(super) packed: &'a Folded,
    pub(super) bias: *const f32,
    pub(super) x: *const f32,
    pub(super) y: *mut f32,
    /// [`Sums`] of each thread's part and one M, for images that all threads share.
    pub(super) shared: *mut f32,
}

// SAFETY: threads only read shared data, and write to separate memory.
unsafe impl Sync for Forward<'_> {}

impl Forward<'_> {
    /// Length of `shared` for `threads` threads.
    pub(super) fn shared_len(shape: &Shape, threads: usize) -> usize {
        if threads > 1 { threads * Sums::len(shape) + mixed(shape) } else { 0 }
    }
}

/// Number of values of M: channels by blocks of rows of any instruction set.
fn mixed(shape: &Shape) -> usize {
    (shape.c + 16) * shape.inner()
}

/// The work of one thread.
pub(super) struct Share<'a> {
    pub(super) all: &'a Forward<'a>,
    pub(super) member: Member<'a>,
}

impl Share<'_> {
    /// Sums over the positions `from..to` of an image.
    #[inline(always)]
    unsafe fn keys<S: Simd>(&self, image: usize, (from, to): (usize, usize), sums: Sums) {
        let Shape { sites, c, .. } = self.all.shape;
        // SAFETY: guaranteed by the caller.
        unsafe {
            let x = self.all.x.add(image * sites * c);
            let to_sums = (self.all.packed.keys.as_ptr(), sums);
            if self.all.packed.pairs {
                keys::<S, true>(&self.all.shape, x, (from, to), to_sums);
            } else {
                keys::<S, false>(&self.all.shape, x, (from, to), to_sums);
            }
        }
    }

    /// M of the heads `heads` from the sums of the parts of an image.
    #[inline(always)]
    unsafe fn fold<S: Simd>(&self, heads: (usize, usize), parts: &[Sums], to: *mut f32) {
        let shape = &self.all.shape;
        let Shape { c, dim, .. } = *shape;
        let pairs = self.all.packed.pairs;
        let of_head = if pairs { shape.head_pairs() } else { dim };
        let inner = shape.heads * of_head;
        let width = dim.next_multiple_of(gemm::panel::<S>());
        let (mut merged, mut context, mut rows) =
            (Scratch::take(dim * c + dim), Scratch::take(dim * width), Scratch::take(dim * c));
        let (merged, context, rows) =
            (merged.as_mut_ptr(), context.as_mut_ptr(), rows.as_mut_ptr());
        for head in heads.0..heads.1 {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let (sums, total) = merge::<S>(shape, head, parts, merged);
                let values = self.all.packed.values.as_ptr().add(head * width * c);
                let (a, to_context) = ((sums, c, 1), (context, width));
                let size = [dim, dim, c];
                S::call(Panels { a, b: values, c: to_context, shape: size, add: false });
                for d in 0..dim {
                    let share = S::splat(1.0 / *total.add(d));
                    for e in (0..width).step_by(S::LANES) {
                        let at = context.add(d * width + e);
                        S::store(at, S::mul(S::load(at), share));
                    }
                }
                let a = (context.cast_const(), width, 1);
                let b = (self.all.packed.out.as_ptr().add(head * dim * c), c);
                S::call(Product { a, b, c: (rows, c), shape: [dim, c, dim], add: false });
                if pairs {
                    pair_rows::<S>((rows, rows, c), (dim, c));
                }
                // Into blocks of rows, as of `gemm::pack_rows`.
                for block in 0..c.div_ceil(S::ROWS) {
                    for d in 0..of_head {
                        let to = to.add((block * inner + head * of_head + d) * S::ROWS);
                        for i in 0..S::ROWS {
                            let k = block * S::ROWS + i;
                            *to.add(i) = if k < c { *rows.add(d * c + k) } else { 0.0 };
                        }
                    }
                }
            }
        }
    }

    /// A product of f32 or of bf16 pairs, depending on the packed weights.
    #[inline(always)]
    unsafe fn product<S: Simd>(&self, product: Stack) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            if self.all.packed.pairs {
                Pairs::<S>::call(product);
            } else {
                S::call(product);
            }
        }
    }

    /// y = x + bias + M softmax(q) for the positions `from..to` of an image.
    #[inline(always)]
    unsafe fn queries<S: Simd>(&self, image: usize, (from, to): (usize, usize), mixed: *const f32) {
        let (shape, pairs) = (&self.all.shape, self.all.packed.pairs);
        let Shape { sites, c, heads, dim, .. } = *shape;
        let (inner, width) = (shape.inner(), gemm::panel::<S>());
        let paired = (c.div_ceil(2), heads * shape.head_pairs());
        let (channels, features) = if pairs { paired } else { (c, inner) };
        let (mut x, mut q) = (Scratch::take(c * width), Scratch::take((inner + S::ROWS) * width));
        let (mut out, mut rows) = (Scratch::take((c + S::ROWS) * width), Scratch::take(c * width));
        let (xs, q) = (x.as_mut_ptr(), q.as_mut_ptr());
        let (out, rows) = (out.as_mut_ptr(), rows.as_mut_ptr());
        for site in (from..to).step_by(width) {
            let count = width.min(to - site);
            let at = (image * sites + site) * c;
            // SAFETY: guaranteed by the caller.
            unsafe {
                let x = self.all.x.add(at);
                columns::<S>((x, c), (count, c), (xs, width), rows);
                normal_columns::<S>(xs, c);
                let a = self.all.packed.queries.as_ptr();
                if pairs {
                    pair_rows::<S>((xs, xs, width), (c, width));
                }
                let (b, to) = ((xs.cast_const(), width), (q, width));
                self.product::<S>(Stack { a, b, c: to, m: inner, k: channels });
                for head in 0..heads {
                    let from = q.add(head * dim * width);
                    softmax_columns::<S>((from, width), dim);
                    if pairs {
                        let to = q.add(head * shape.head_pairs() * width);
                        pair_rows::<S>((from, to, width), (dim, width));
                    }
                }
                let (b, to) = ((q.cast_const(), width), (out, width));
                self.product::<S>(Stack { a: mixed, b, c: to, m: c, k: features });
                add_columns::<S>(out, self.all.bias, (x, self.all.y.add(at)), (count, c));
            }
        }
    }

    /// An image whose positions are divided among all threads.
    #[inline(always)]
    unsafe fn together<S: Simd>(&self, image: usize) {
        let (shape, member) = (&self.all.shape, self.member);
        let parts = member.count.min(shape.sites.div_ceil(PART));
        let part = |i: usize| (shape.sites * i / parts, shape.sites * (i + 1) / parts);
        // SAFETY: guaranteed by the caller; between barriers threads write to separate memory, and
        // do not write what others read.
        unsafe {
            let sums = |i: usize| Sums::new(shape, self.all.shared.add(i * Sums::len(shape)));
            let mixed = self.all.shared.add(member.count * Sums::len(shape));
            if member.index < parts {
                self.keys::<S>(image, part(member.index), sums(member.index));
            }
            member.barrier();
            let all: Vec<Sums> = (0..parts).map(sums).collect();
            let heads = member.share(shape.heads);
            self.fold::<S>((heads.start, heads.end), &all, mixed);
            member.barrier();
            if member.index < parts {
                self.queries::<S>(image, part(member.index), mixed);
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
        let alone = shape.images / member.count * member.count;
        let (mut sums, mut mix) = (Scratch::take(Sums::len(shape)), Scratch::take(mixed(shape)));
        let (sums, mix) = (sums.as_mut_ptr(), mix.as_mut_ptr());
        // SAFETY: guaranteed by the caller; the buffers have these sizes.
        unsafe {
            let sums = Sums::new(shape, sums);
            for image in member.share(alone) {
                self.keys::<S>(image, (0, shape.sites), sums);
                self.fold::<S>((0, shape.heads), &[sums], mix);
                self.queries::<S>(image, (0, shape.sites), mix);
            }
            for image in alone..shape.images {
                self.together::<S>(image);
            }
        }
    }
}
