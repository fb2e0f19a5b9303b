//! The gradients of the form for few positions, from x alone: intermediate values of the forward
//! are recomputed.
//!
//! As there, the weights are read once for many images. Gradients of weights are divided among
//! threads by channels, so that there is one copy of them and not one per thread.

use vd_torch::Member;

use super::backward::Gradients;
use super::direct::{block, rows, softmax};
use super::direct_heads::Heads;
use super::pack::{Direct, DirectBack, Shape};
use super::product::{Panels, Product};
use super::sites::{normal_grad, normal_rows};
use super::sums::{Sums, exponentials};
use crate::kernels::cpu::{Scratch, Simd, Work, gemm};

/// All gradients: pointers and sizes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backward<'a> {
    pub(super) shape: Shape,
    pub(super) packed: &'a Direct,
    pub(super) back: &'a DirectBack,
    pub(super) x: *const f32,
    pub(super) grad: *const f32,
    pub(super) x_grad: *mut f32,
    /// Of all threads together, initially zeros.
    pub(super) gradients: Gradients,
    /// Memory shared by all threads.
    pub(super) shared: *mut f32,
}

// SAFETY: threads only read shared data, and write to separate memory.
unsafe impl Sync for Backward<'_> {}

impl Backward<'_> {
    /// Length of `shared`.
    pub(super) fn shared_len(shape: &Shape) -> usize {
        let (normal, features) = rows(shape);
        block(shape) * shape.sites * (2 * normal + 4 * features)
    }

    /// Normalised positions of a block, and the gradient of its output.
    fn sites(&self) -> [*mut f32; 2] {
        let sites = block(&self.shape) * self.shape.sites;
        // SAFETY: within the `shared_len` values.
        [self.shared, unsafe { self.shared.add(sites * rows(&self.shape).0) }]
    }

    /// Queries, keys and values of a block, and the gradient of the attention's result; then the
    /// gradients of the three, and the attention's result.
    fn features(&self) -> [*mut f32; 4] {
        let (normal, features) = rows(&self.shape);
        let sites = block(&self.shape) * self.shape.sites;
        // SAFETY: within the `shared_len` values.
        [0, 1, 2, 3].map(|i| unsafe { self.shared.add(sites * (2 * normal + i * features)) })
    }
}

/// The work of one thread.
pub(super) struct Share<'a> {
    pub(super) all: &'a Backward<'a>,
    pub(super) member: Member<'a>,
}

impl Share<'_> {
    /// Loads some positions of a block and normalises them; `first` is the block's first one.
    #[inline(always)]
    unsafe fn take<S: Simd>(&self, first: usize, count: usize) {
        let (c, row) = (self.all.shape.c, rows(&self.all.shape).0);
        let ([normal, grads], range) = (self.all.sites(), self.member.share(count));
        // SAFETY: guaranteed by the caller; threads write separate positions.
        unsafe {
            let at = (first + range.start) * c;
            let to = (normal.add(range.start * row), row);
            normal_rows::<S>(self.all.x.add(at), to, (range.len(), c));
            // Rows with a gap do not conflict in the cache.
            for site in range {
                let from = self.all.grad.add((first + site) * c);
                std::ptr::copy_nonoverlapping(from, grads.add(site * row), c);
            }
        }
    }

    /// Some panels of the features of `count` positions.
    #[inline(always)]
    unsafe fn project<S: Simd>(&self, count: usize) {
        let shape = &self.all.shape;
        let (normal, features) = rows(shape);
        let ([sites, grads], to, width) =
            (self.all.sites(), self.all.features(), gemm::panel::<S>());
        let panels = shape.inner().div_ceil(width);
        let [queries, keys, values] = &self.all.packed.qkv;
        let weights = [queries, keys, values, &self.all.back.out];
        for task in self.member.share(4 * panels) {
            let (part, panel) = (task / panels, task % panels);
            let from = if part < 3 { sites } else { grads };
            // SAFETY: guaranteed by the caller; threads write separate panels.
            unsafe {
                let b = weights[part].as_ptr().add(panel * width * shape.c);
                let c = (to[part].add(panel * width), features);
                let a = (from.cast_const(), normal, 1);
                S::call(Panels { a, b, c, shape: [count, width, shape.c], add: false });
            }
        }
    }

    /// The attention of image `image` of a block, and the gradients of its features.
    #[inline(always)]
    unsafe fn attend<S: Simd>(&self, image: usize, sums: Sums, heads: &Heads) {
        let shape = &self.all.shape;
        let (sites, row) = (shape.sites, rows(shape).1);
        // SAFETY: guaranteed by the caller. Vectors of features end within the rows, which have a
        // gap.
        unsafe {
            let features = self.all.features().map(|part| part.add(image * sites * row));
            let [queries, keys, ..] = features;
            for n in (0..shape.inner()).step_by(S::LANES) {
                exponentials::<S>((keys.add(n), row), sites, (sums, n), false);
                let share = S::div(S::splat(1.0), S::load(sums.total.add(n)));
                for site in 0..sites {
                    let at = keys.add(site * row + n);
                    S::store(at, S::mul(S::load(at), share));
                }
            }
            for head in 0..shape.heads {
                let first = head * shape.dim;
                for site in 0..sites {
                    softmax::<S>(queries.add(site * row + first), shape.dim);
                }
                heads.gradients::<S>(features.map(|part| part.add(first)), row);
            }
        }
    }

    /// Results for some panels of channels: the gradient of the normalised positions, those of the
    /// weights, and that of the bias.
    #[inline(always)]
    unsafe fn channels<S: Simd>(&self, first: usize, count: usize) {
        let shape = &self.all.shape;
        let (c, inner, width) = (shape.c, shape.inner(), gemm::panel::<S>());
        let ((normal, row), features, gradients) =
            (rows(shape), self.all.features(), &self.all.gradients);
        let [sites, grads] = self.all.sites().map(<*mut f32>::cast_const);
        for panel in self.member.share(c.div_ceil(width)) {
            let (from, columns) = (panel * width, width.min(c - panel * width));
            // SAFETY: guaranteed by the caller; threads write separate channels.
            unsafe {
                let x_grad = (self.all.x_grad.add(first * c + from), c);
                for (part, values) in features.into_iter().enumerate() {
                    let values = values.cast_const();
                    if let Some(weights) = self.all.back.qkv.get(part) {
                        let b = (weights.as_ptr().add(from * inner), width);
                        let (a, shape) = ((values, row, 1), [count, columns, inner]);
                        S::call(Product { a, b, c: x_grad, shape, add: part > 0 });
                    }
                    let b = if part < 3 { sites } else { grads };
                    let (a, b) = ((values, 1, row), (b.add(from), normal));
                    let (to, shape) =
                        ((gradients.part(part).add(from), c), [inner, columns, count]);
                    S::call(Product { a, b, c: to, shape, add: true });
                }
                for k in (from..from + columns).step_by(S::LANES) {
                    let bias = gradients.part(4).add(k);
                    let mut sum = S::load(bias);
                    for site in 0..count {
                        sum = S::add(sum, S::load(grads.add(site * normal + k)));
                    }
                    S::store(bias, sum);
                }
            }
        }
    }
}

impl Work for Share<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (shape, member) = (&self.all.shape, self.member);
        let Shape { images, sites, c, .. } = *shape;
        let (block, row) = (block(shape), rows(shape).0);
        let mut sums = Scratch::take(2 * Sums::width(shape));
        let mut own = Scratch::take(Heads::len(shape));
        let (top, own) = (sums.as_mut_ptr(), own.as_mut_ptr());
        // SAFETY: guaranteed by the caller; between barriers threads write to separate memory, and
        // do not write what others read.
        unsafe {
            let sums = Sums { sums: std::ptr::null_mut(), top, total: top.add(Sums::width(shape)) };
            let heads = Heads::new(shape, own);
            for first in (0..images).step_by(block) {
                let images = block.min(images - first);
                let (first, count) = (first * sites, images * sites);
                self.take::<S>(first, count);
                member.barrier();
                self.project::<S>(count);
                member.barrier();
                for image in member.share(images) {
                    self.attend::<S>(image, sums, &heads);
                }
                member.barrier();
                self.channels::<S>(first, count);
                member.barrier();
                let range = member.share(count);
                let at = (first + range.start) * c;
                let normal = self.all.sites()[0].add(range.start * row).cast_const();
                let (grad, x_grad) = (self.all.grad.add(at), self.all.x_grad.add(at));
                normal_grad::<S>((normal, row), grad, x_grad, (range.len(), c));
                // The next block may be divided differently.
                member.barrier();
            }
        }
    }
}
