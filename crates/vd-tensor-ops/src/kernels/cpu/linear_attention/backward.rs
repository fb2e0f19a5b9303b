//! The gradients of the form for many positions, from x alone: intermediate values of the forward
//! are recomputed.
//!
//! Three passes over an image: sums of the keys; queries, which give the gradient of M and their
//! own; keys, once the gradient of M has been converted to that of the sums.

use vd_torch::Member;

use super::buffers::Buffers;
use super::fold::{fold, unfold};
use super::pack::{Folded, Shape, Unfolded};
use super::product::{Panels, Product, Stack};
use super::sites::{GAP, columns, normal_grad, normal_rows, softmax_columns, softmax_grad};
use super::sums::{CHUNK, PART, Sums, keys};
use crate::kernels::cpu::{Scratch, Simd, Work, gemm};

/// Panels of positions whose queries are in the cache at a time.
const PANELS: usize = 4;

/// All gradients: pointers and sizes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backward<'a> {
    pub(super) shape: Shape,
    pub(super) packed: &'a Folded,
    pub(super) back: &'a Unfolded,
    pub(super) x: *const f32,
    pub(super) grad: *const f32,
    pub(super) x_grad: *mut f32,
    /// For each thread [`Gradients`], initially zeros.
    pub(super) gradients: *mut f32,
    /// [`Buffers`] of as many parts as there are threads, for images that all threads share.
    pub(super) shared: *mut f32,
}

// SAFETY: threads only read shared data, and write to separate memory.
unsafe impl Sync for Backward<'_> {}

/// Gradients of the weights, still including the norm's gain, from the images and positions of a
/// thread: rows of c.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gradients {
    at: *mut f32,
    /// Values of one of the four matrices: queries, keys, values, and the output projection,
    /// transposed and without the factor of the queries.
    size: usize,
}

impl Gradients {
    /// Rows of c: the four matrices and the bias.
    pub(super) fn rows(shape: &Shape) -> usize {
        4 * shape.inner() + 1
    }

    /// # Safety
    /// `at` is valid for the rows.
    pub(super) unsafe fn new(shape: &Shape, at: *mut f32) -> Self {
        Gradients { at, size: shape.inner() * shape.c }
    }

    pub(super) fn part(&self, i: usize) -> *mut f32 {
        // SAFETY: made for these rows.
        unsafe { self.at.add(i * self.size) }
    }
}

/// The work of one thread.
pub(super) struct Share<'a> {
    pub(super) all: &'a Backward<'a>,
    pub(super) member: Member<'a>,
}

/// The part of an image that a thread takes.
#[derive(Debug, Clone, Copy)]
struct Piece {
    image: usize,
    /// Number of the part; None if there are fewer parts than threads.
    part: Option<usize>,
    /// The range of positions.
    sites: (usize, usize),
    /// The range of heads.
    heads: (usize, usize),
}

impl Share<'_> {
    fn gradients(&self) -> Gradients {
        let shape = &self.all.shape;
        let each = Gradients::rows(shape) * shape.c;
        // SAFETY: there is room for each thread.
        unsafe { Gradients::new(shape, self.all.gradients.add(self.member.index * each)) }
    }

    /// The gradients of the queries of some positions; writes their contribution with respect to
    /// the normalised x into the gradient of x.
    #[inline(always)]
    unsafe fn queries<S: Simd>(&self, buffers: &Buffers, piece: &Piece, part: usize) {
        let shape = &self.all.shape;
        let (c, inner, width) = (shape.c, shape.inner(), gemm::panel::<S>());
        let (block, row) = (PANELS * width, c + GAP);
        let wide = block + GAP;
        let mut normal = Scratch::take(block * row);
        let [mut xs, mut gs] = [Scratch::take(c * wide), Scratch::take(c * wide)];
        let mut q = Scratch::take((inner + S::ROWS) * wide);
        let (mut q_grad, mut rows) = (Scratch::take(inner * wide), Scratch::take(width * row));
        let (normal, xs, gs) = (normal.as_mut_ptr(), xs.as_mut_ptr(), gs.as_mut_ptr());
        let (q, q_grad, rows) = (q.as_mut_ptr(), q_grad.as_mut_ptr(), rows.as_mut_ptr());
        let (gradients, [_, mixed]) = (self.gradients(), buffers.whole());
        for site in (piece.sites.0..piece.sites.1).step_by(block) {
            let count = block.min(piece.sites.1 - site);
            let at = (piece.image * shape.sites + site) * c;
            // SAFETY: guaranteed by the caller; the buffers have a column for each position of a
            // block.
            unsafe {
                let (x, g) = (self.all.x.add(at), self.all.grad.add(at));
                normal_rows::<S>(x, (normal, row), (count, c));
                for first in (0..count).step_by(width) {
                    let size = (width.min(count - first), c);
                    let (normal, g) =
                        ((normal.add(first * row).cast_const(), row), g.add(first * c));
                    columns::<S>(normal, size, (xs.add(first), wide), rows);
                    columns::<S>((g, c), size, (gs.add(first), wide), rows);
                    let (b, to) = ((xs.add(first).cast_const(), wide), (q.add(first), wide));
                    let a = self.all.packed.queries.as_ptr();
                    S::call(Stack { a, b, c: to, m: inner, k: c });
                }
                let whole = count.next_multiple_of(width);
                let (a, b) = ((mixed.cast_const(), c, 1), (gs.cast_const(), wide));
                S::call(Product { a, b, c: (q_grad, wide), shape: [inner, whole, c], add: false });
                for head in 0..shape.heads {
                    for first in (0..count).step_by(width) {
                        let at = head * shape.dim * wide + first;
                        softmax_columns::<S>((q.add(at), wide), shape.dim);
                        softmax_grad::<S>((q.add(at), q_grad.add(at), wide), shape.dim);
                    }
                }
                // Padding positions of the last panel are excluded from sums.
                let (a, b) = ((q.cast_const(), wide, 1), (g, c));
                let (to, size) = ((buffers.mixed_grad(part), c), [inner, c, count]);
                S::call(Product { a, b, c: to, shape: size, add: site > piece.sites.0 });
                let (a, b) = ((q_grad.cast_const(), wide, 1), (normal.cast_const(), row));
                S::call(Product { a, b, c: (gradients.part(0), c), shape: size, add: true });
                let a = (q_grad.cast_const(), 1, wide);
                let (b, to) = (self.all.back.queries.as_ptr(), (self.all.x_grad.add(at), c));
                S::call(Panels { a, b, c: to, shape: [count, c, inner], add: false });
                sum_rows::<S>(g, gradients.part(4), (count, c));
            }
        }
    }

    /// The gradients of the keys of some positions, and of x.
    #[inline(always)]
    unsafe fn keys<S: Simd>(&self, buffers: &Buffers, piece: &Piece) {
        let shape = &self.all.shape;
        let (c, inner) = (shape.c, shape.inner());
        let (row, k_row) = (c + GAP, Sums::width(shape) + GAP);
        let mut normal = Scratch::take(CHUNK * row);
        let [mut keys, mut k_grad] = [(); 2].map(|()| Scratch::take(CHUNK * k_row));
        let (normal, keys, k_grad) = (normal.as_mut_ptr(), keys.as_mut_ptr(), k_grad.as_mut_ptr());
        let [by_channels, by_features] = buffers.sums_grad();
        let gradient = self.gradients().part(1);
        for site in (piece.sites.0..piece.sites.1).step_by(CHUNK) {
            let count = CHUNK.min(piece.sites.1 - site);
            let at = (piece.image * shape.sites + site) * c;
            // SAFETY: guaranteed by the caller; the buffers have a row for each position of a
            // chunk.
            unsafe {
                normal_rows::<S>(self.all.x.add(at), (normal, row), (count, c));
                let (a, size) = ((normal.cast_const(), row, 1), [count, inner, c]);
                let b = self.all.packed.keys.as_ptr();
                S::call(Panels { a, b, c: (keys, k_row), shape: size, add: false });
                S::call(Panels { a, b: by_features, c: (k_grad, k_row), shape: size, add: false });
                for n in (0..inner).step_by(S::LANES) {
                    let features = buffers.features().map(|at| S::load(at.add(n)));
                    for site in 0..count {
                        let at = site * k_row + n;
                        key_grad::<S>(keys.add(at), k_grad.add(at), features);
                    }
                }
                let x_grad = self.all.x_grad.add(at);
                for (a, b) in
                    [(keys, by_channels.cast_const()), (k_grad, self.all.back.keys.as_ptr())]
                {
                    let a = (a.cast_const(), k_row, 1);
                    S::call(Panels { a, b, c: (x_grad, c), shape: [count, c, inner], add: true });
                }
                let (a, b) = ((k_grad.cast_const(), 1, k_row), (normal.cast_const(), row));
                S::call(Product { a, b, c: (gradient, c), shape: [inner, c, count], add: true });
                normal_grad::<S>((normal, row), self.all.grad.add(at), x_grad, (count, c));
            }
        }
    }

    /// Takes a piece of an image through all steps; calls `wait` between them.
    #[inline(always)]
    unsafe fn piece<S: Simd>(&self, buffers: &Buffers, piece: &Piece, wait: impl Fn()) {
        let (all, shape) = (self.all, &self.all.shape);
        // SAFETY: guaranteed by the caller; between waits threads write to separate memory, and do
        // not write what others read.
        unsafe {
            if let Some(part) = piece.part {
                let x = all.x.add(piece.image * shape.sites * shape.c);
                keys::<S, false>(
                    shape,
                    x,
                    piece.sites,
                    (all.packed.keys.as_ptr(), buffers.sums(part)),
                );
            }
            wait();
            fold::<S>(shape, all.packed, buffers, piece.heads);
            wait();
            if let Some(part) = piece.part {
                self.queries::<S>(buffers, piece, part);
            }
            wait();
            unfold::<S>(shape, all.back, buffers, piece.heads, &self.gradients());
            wait();
            if piece.part.is_some() {
                self.keys::<S>(buffers, piece);
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
        let mut own = Scratch::take(Buffers::len(shape, 1));
        // SAFETY: guaranteed by the caller; the buffers have these sizes.
        unsafe {
            let own = Buffers::new(shape, own.as_mut_ptr(), 1);
            for number in 0..member.share(alone).len() + (shape.images - alone) {
                let mine = member.share(alone);
                let whole = number < mine.len();
                let parts = if whole { 1 } else { member.count.min(shape.sites.div_ceil(PART)) };
                let (image, part, heads) = if whole {
                    (mine.start + number, 0, 0..shape.heads)
                } else {
                    (alone + number - mine.len(), member.index, member.share(shape.heads))
                };
                let part = Some(part).filter(|part| *part < parts);
                let from = |i: usize| shape.sites * i / parts;
                let sites = part.map_or((0, 0), |part| (from(part), from(part + 1)));
                let piece = Piece { image, part, sites, heads: (heads.start, heads.end) };
                let buffers = if whole { own } else { Buffers::new(shape, self.all.shared, parts) };
                self.piece::<S>(&buffers, &piece, || {
                    if !whole {
                        member.barrier();
                    }
                });
            }
        }
    }
}

/// Adds rows of c up.
#[inline(always)]
unsafe fn sum_rows<S: Simd>(x: *const f32, to: *mut f32, (count, c): (usize, usize)) {
    for k in (0..c).step_by(S::LANES) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let mut sum = S::load(to.add(k));
            for site in 0..count {
                sum = S::add(sum, S::load(x.add(site * c + k)));
            }
            S::store(to.add(k), sum);
        }
    }
}

/// Replaces keys by their softmax, and the gradient of the softmax by the gradient of the keys.
#[inline(always)]
unsafe fn key_grad<S: Simd>(key: *mut f32, grad: *mut f32, [top, share, mean]: [S::V; 3]) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let e = S::mul(S::exp(S::sub(S::load(key), top)), share);
        S::store(key, e);
        S::store(grad, S::mul(e, S::sub(S::load(grad), mean)));
    }
}
