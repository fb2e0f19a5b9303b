//! The form for many sites: values are never made.
//!
//! S = softmax over sites(k)^T x, one row of channels for each feature of a key; the projections of
//! values and back are folded into it for each image, M = Wo (S Wv^T)^T; then y = M softmax(q).

use vd_torch::Member;

use super::pack::{Folded, Shape};
use super::product::{Panels, Product, Stack};
use super::sites::{add_columns, columns, normal_columns, softmax_columns};
use super::sums::{PART, Sums, keys, merge};
use crate::kernels::cpu::{Scratch, Simd, Work, gemm};

/// The whole attention: where everything lies.
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

// SAFETY: threads read what the pointers show and write apart from each other.
unsafe impl Sync for Forward<'_> {}

impl Forward<'_> {
    /// Values of `shared` for `threads` threads.
    pub(super) fn shared_len(shape: &Shape, threads: usize) -> usize {
        if threads > 1 { threads * Sums::len(shape) + mixed(shape) } else { 0 }
    }
}

/// Values of an M: channels by blocks of rows of any set.
fn mixed(shape: &Shape) -> usize {
    (shape.c + 16) * shape.inner()
}

/// What one thread does.
pub(super) struct Share<'a> {
    pub(super) all: &'a Forward<'a>,
    pub(super) member: Member<'a>,
}

impl Share<'_> {
    /// Sums over the sites `from..to` of an image.
    #[inline(always)]
    unsafe fn keys<S: Simd>(&self, image: usize, (from, to): (usize, usize), sums: Sums) {
        let Shape { sites, c, .. } = self.all.shape;
        // SAFETY: the caller's.
        unsafe {
            let x = self.all.x.add(image * sites * c);
            keys::<S>(&self.all.shape, x, (from, to), (self.all.packed.keys.as_ptr(), sums));
        }
    }

    /// M of the heads `heads` from the sums of the parts of an image.
    #[inline(always)]
    unsafe fn fold<S: Simd>(&self, heads: (usize, usize), parts: &[Sums], to: *mut f32) {
        let shape = &self.all.shape;
        let Shape { c, dim, .. } = *shape;
        let inner = shape.inner();
        let width = dim.next_multiple_of(gemm::panel::<S>());
        let (mut merged, mut context, mut rows) =
            (Scratch::take(dim * c + dim), Scratch::take(dim * width), Scratch::take(dim * c));
        let (merged, context, rows) =
            (merged.as_mut_ptr(), context.as_mut_ptr(), rows.as_mut_ptr());
        for head in heads.0..heads.1 {
            // SAFETY: the caller's.
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
                // Into blocks of rows, as of `gemm::pack_rows`.
                for block in 0..c.div_ceil(S::ROWS) {
                    for d in 0..dim {
                        let to = to.add((block * inner + head * dim + d) * S::ROWS);
                        for i in 0..S::ROWS {
                            let k = block * S::ROWS + i;
                            *to.add(i) = if k < c { *rows.add(d * c + k) } else { 0.0 };
                        }
                    }
                }
            }
        }
    }

    /// y = x + bias + M softmax(q) for the sites `from..to` of an image.
    #[inline(always)]
    unsafe fn queries<S: Simd>(&self, image: usize, (from, to): (usize, usize), mixed: *const f32) {
        let Shape { sites, c, heads, dim, .. } = self.all.shape;
        let (inner, width) = (self.all.shape.inner(), gemm::panel::<S>());
        let (mut x, mut q) = (Scratch::take(c * width), Scratch::take((inner + S::ROWS) * width));
        let (mut out, mut rows) = (Scratch::take((c + S::ROWS) * width), Scratch::take(c * width));
        let (xs, q) = (x.as_mut_ptr(), q.as_mut_ptr());
        let (out, rows) = (out.as_mut_ptr(), rows.as_mut_ptr());
        for site in (from..to).step_by(width) {
            let count = width.min(to - site);
            let at = (image * sites + site) * c;
            // SAFETY: the caller's.
            unsafe {
                let x = self.all.x.add(at);
                columns::<S>((x, c), (count, c), (xs, width), rows);
                normal_columns::<S>(xs, c);
                let a = self.all.packed.queries.as_ptr();
                S::call(Stack { a, b: (xs.cast_const(), width), c: (q, width), m: inner, k: c });
                for head in 0..heads {
                    softmax_columns::<S>((q.add(head * dim * width), width), dim);
                }
                let (b, to) = ((q.cast_const(), width), (out, width));
                S::call(Stack { a: mixed, b, c: to, m: c, k: inner });
                add_columns::<S>(out, self.all.bias, (x, self.all.y.add(at)), (count, c));
            }
        }
    }

    /// An image of which every thread takes some sites.
    #[inline(always)]
    unsafe fn together<S: Simd>(&self, image: usize) {
        let (shape, member) = (&self.all.shape, self.member);
        let parts = member.count.min(shape.sites.div_ceil(PART));
        let part = |i: usize| (shape.sites * i / parts, shape.sites * (i + 1) / parts);
        // SAFETY: the caller's; between barriers threads write apart from each other, and what they
        // read there is not written.
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

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (shape, member) = (&self.all.shape, self.member);
        let alone = shape.images / member.count * member.count;
        let (mut sums, mut mix) = (Scratch::take(Sums::len(shape)), Scratch::take(mixed(shape)));
        let (sums, mix) = (sums.as_mut_ptr(), mix.as_mut_ptr());
        // SAFETY: the caller's; the buffers have these sizes.
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
