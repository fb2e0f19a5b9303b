//! The gradients, from x alone: intermediate values of the forward are recomputed, some images at a
//! time.
//!
//! Threads share each step of a block of images. Each sum is computed by one thread, block after
//! block, so results do not depend on the number of threads.

use vd_torch::Member;

use super::heads::{Bias, Head, Queries, queries};
use super::heads_grad::{GradBuffers, HeadGrad};
use super::pack::{Packed, Shape};
use super::sites::{Rows, block, share};
use super::sums::{Gradients, Sums};
use crate::kernels::cpu::linear_attention::product::{Panels, Product};
use crate::kernels::cpu::linear_attention::sites::{normal_grad, normal_rows};
use crate::kernels::cpu::{Scratch, Simd, Work};

/// Keys at a time: up to this number, scores are computed once.
const KEYS: usize = 256;

/// All gradients: pointers and sizes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backward<'a> {
    pub(super) shape: Shape,
    pub(super) packed: &'a Packed,
    pub(super) back: &'a Packed,
    pub(super) bias: Bias,
    pub(super) x: *const f32,
    pub(super) grad: *const f32,
    pub(super) x_grad: *mut f32,
    /// With the bias's layout, initially zeros; null without a bias.
    pub(super) bias_grad: *mut f32,
    pub(super) gradients: Gradients<'a>,
    /// [`Backward::shared_len`] values.
    pub(super) shared: *mut f32,
}

// SAFETY: threads only read shared data, and write to separate memory.
unsafe impl Sync for Backward<'_> {}

/// Memory shared by all threads: rows of positions, and sums over them.
#[derive(Debug, Clone, Copy)]
struct Shared {
    normal: *mut f32,
    /// The gradient of the output, with gaps between rows.
    grad: *mut f32,
    qkv: *mut f32,
    qkv_grad: *mut f32,
    out: *mut f32,
    out_grad: *mut f32,
    sums: Sums,
}

impl Backward<'_> {
    pub(super) fn shared_len(shape: &Shape) -> usize {
        let Rows { channels, qkv, features } = Rows::new(shape);
        2 * block(shape) * shape.sites * (channels + qkv + features) + Sums::len(shape)
    }

    fn shared(&self) -> Shared {
        let Rows { channels, qkv, features } = Rows::new(&self.shape);
        let sites = block(&self.shape) * self.shape.sites;
        // SAFETY: within `shared_len`.
        let part = |values: usize| unsafe { self.shared.add(sites * values) };
        let first = 2 * channels;
        Shared {
            normal: part(0),
            grad: part(channels),
            qkv: part(first),
            qkv_grad: part(first + qkv),
            out: part(first + 2 * qkv),
            out_grad: part(first + 2 * qkv + features),
            sums: Sums::new(&self.shape, part(first + 2 * (qkv + features))),
        }
    }
}

/// The work of one thread.
pub(super) struct Share<'a> {
    pub(super) all: &'a Backward<'a>,
    pub(super) member: Member<'a>,
}

impl Share<'_> {
    /// Normalised positions and gradients as rows; queries, keys and values, and the gradient of
    /// the heads' outputs, of `count` positions from `first` on.
    #[inline(always)]
    unsafe fn project<S: Simd>(&self, first: usize, count: usize) {
        let (all, row, to) = (self.all, Rows::new(&self.all.shape), self.all.shared());
        let (c, features, mine) = (all.shape.c, all.shape.features(), self.member.share(count));
        // SAFETY: guaranteed by the caller.
        unsafe {
            let at = (first + mine.start) * c;
            let normal = (to.normal.add(mine.start * row.channels), row.channels);
            normal_rows::<S>(all.x.add(at), normal, (mine.len(), c));
            for site in mine {
                let from = all.grad.add((first + site) * c);
                std::ptr::copy_nonoverlapping(from, to.grad.add(site * row.channels), c);
            }
            self.member.barrier();
            let a = (to.normal.cast_const(), row.channels, 1);
            let (b, qkv) = (all.packed.qkv.as_ptr(), (to.qkv, row.qkv));
            let shape = [count, 3 * features, c];
            share::<S>(&self.member, &Panels { a, b, c: qkv, shape, add: false });
            let a = (to.grad.cast_const(), row.channels, 1);
            let (b, out) = (all.back.out.as_ptr(), (to.out_grad, row.features));
            let shape = [count, features, c];
            share::<S>(&self.member, &Panels { a, b, c: out, shape, add: false });
        }
    }

    /// The gradient of some heads of `images` images.
    #[inline(always)]
    unsafe fn heads<S: Simd>(&self, images: usize, buffers: &GradBuffers) {
        let Shape { heads, .. } = self.all.shape;
        let tasks = heads * images;
        // The gradient of a head's bias is a sum over images, so one thread takes them all.
        let mine = if self.all.bias_grad.is_null() {
            self.member.share(tasks)
        } else {
            let mine = self.member.share(heads);
            mine.start * images..mine.end * images
        };
        for task in mine {
            // SAFETY: guaranteed by the caller.
            unsafe { self.head::<S>(task % images, task / images, buffers) };
        }
    }

    #[inline(always)]
    unsafe fn head<S: Simd>(&self, image: usize, number: usize, buffers: &GradBuffers) {
        let (shape, row, to) = (&self.all.shape, Rows::new(&self.all.shape), self.all.shared());
        let Shape { sites, wide, .. } = *shape;
        let (site, features) = (image * sites, shape.features());
        // SAFETY: guaranteed by the caller.
        unsafe {
            let qkv = (to.qkv.add(site * row.qkv).cast_const(), row.qkv);
            let head = Head::new(shape, qkv, number, self.all.bias);
            let grad = |part| to.qkv_grad.add(site * row.qkv + part * features + number * wide);
            let out = site * row.features + number * wide;
            let bias = self.all.bias_grad;
            let bias =
                if bias.is_null() { bias } else { bias.add(number * sites * self.all.bias.row) };
            let of = HeadGrad {
                out: to.out.add(out),
                out_grad: to.out_grad.add(out),
                out_row: row.features,
                q: grad(0),
                k: grad(1),
                v: grad(2),
                bias,
            };
            for block in 0..sites.div_ceil(queries::<S>()) {
                head.gradient::<S>(buffers, &of, Queries::block::<S>(block, sites));
            }
        }
    }

    /// The gradients of the input, of `count` positions from `first` on, and of the weights.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, first: usize, count: usize) {
        let (all, row, to) = (self.all, Rows::new(&self.all.shape), self.all.shared());
        let (c, features, member) = (all.shape.c, all.shape.features(), &self.member);
        // SAFETY: guaranteed by the caller.
        unsafe {
            let [x_grad, grad] = [all.x_grad.cast_const(), all.grad].map(|at| at.add(first * c));
            let (a, b) = ((to.qkv_grad.cast_const(), row.qkv, 1), all.back.qkv.as_ptr());
            let (x_grad, shape) = (x_grad.cast_mut(), [count, c, 3 * features]);
            share::<S>(member, &Panels { a, b, c: (x_grad, c), shape, add: false });
            let add = first > 0;
            let blocks = |n: usize| {
                let mine = member.share(n.div_ceil(S::ROWS));
                let [from, to] = [mine.start, mine.end].map(|block| n.min(block * S::ROWS));
                (from, to - from)
            };
            let (from, n) = blocks(3 * features);
            let a = (to.qkv_grad.add(from).cast_const(), 1, row.qkv);
            let b = (to.normal.cast_const(), row.channels);
            let c_to = (to.sums.qkv.add(from * c), c);
            S::call(Product { a, b, c: c_to, shape: [n, c, count], add });
            let (from, n) = blocks(c);
            let a = (to.grad.add(from).cast_const(), 1, row.channels);
            let b = (to.out.cast_const(), row.features);
            let c_to = (to.sums.out.add(from * features), features);
            S::call(Product { a, b, c: c_to, shape: [n, features, count], add });
            member.barrier();
            let mine = member.share(count);
            let normal = (to.normal.add(mine.start * row.channels).cast_const(), row.channels);
            let at = mine.start * c;
            normal_grad::<S>(normal, grad.add(at), x_grad.add(at), (mine.len(), c));
        }
    }
}

impl Work for Share<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Shape { images, sites, wide, .. } = self.all.shape;
        let keys = KEYS.min(sites);
        let mut buffers = Scratch::take(GradBuffers::len::<S>(wide, keys));
        // SAFETY: guaranteed by the caller; between barriers threads write to separate memory, and
        // do not write what others read.
        unsafe {
            let buffers = GradBuffers::new::<S>(buffers.as_mut_ptr(), wide, keys);
            let block = block(&self.all.shape);
            for image in (0..images).step_by(block) {
                let images = block.min(images - image);
                self.project::<S>(image * sites, images * sites);
                self.member.barrier();
                self.heads::<S>(images, &buffers);
                self.member.barrier();
                self.finish::<S>(image * sites, images * sites);
                self.member.barrier();
            }
            let sums = self.all.shared().sums;
            self.all.gradients.take::<S>(&self.all.shape, &sums, &self.member);
        }
    }
}
