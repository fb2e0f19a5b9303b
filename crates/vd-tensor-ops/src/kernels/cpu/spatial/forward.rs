//! y = x + the attention of the normalised x, some images at a time.
//!
//! Threads share each step of a block of images: the weights, which at coarse levels are larger
//! than everything else, are read once for all of its positions.

use vd_torch::Member;

use super::heads::{Bias, Buffers, Head, Queries, queries};
use super::pack::{Packed, Shape};
use super::sites::{PIECE, Part, Rows, block, share};
use crate::kernels::cpu::linear_attention::product::Panels;
use crate::kernels::cpu::linear_attention::sites::normal_rows;
use crate::kernels::cpu::{Scratch, Simd, Work, gemm};

/// Keys at a time: together with their values and the scores, they fit the L1 cache.
const KEYS: usize = 64;

/// The whole attention: pointers and sizes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forward<'a> {
    pub(super) shape: Shape,
    pub(super) packed: &'a Packed,
    pub(super) bias: Bias,
    pub(super) x: *const f32,
    pub(super) y: *mut f32,
    /// [`Forward::shared_len`] values.
    pub(super) shared: *mut f32,
}

// SAFETY: threads only read shared data, and write to separate memory.
unsafe impl Sync for Forward<'_> {}

/// Memory shared by all threads, in rows of positions.
#[derive(Debug, Clone, Copy)]
struct Shared {
    normal: *mut f32,
    qkv: *mut f32,
    out: *mut f32,
}

impl Forward<'_> {
    pub(super) fn shared_len(shape: &Shape) -> usize {
        let Rows { channels, qkv, features } = Rows::new(shape);
        block(shape) * shape.sites * (channels + qkv + features)
    }

    fn shared(&self) -> Shared {
        let Rows { channels, qkv, .. } = Rows::new(&self.shape);
        let (sites, normal) = (block(&self.shape) * self.shape.sites, self.shared);
        // SAFETY: within `shared_len`.
        let part = |values: usize| unsafe { normal.add(sites * values) };
        Shared { normal, qkv: part(channels), out: part(channels + qkv) }
    }
}

/// The work of one thread.
pub(super) struct Share<'a> {
    pub(super) all: &'a Forward<'a>,
    pub(super) member: Member<'a>,
}

impl Share<'_> {
    /// Some queries of some heads of `images` images.
    #[inline(always)]
    unsafe fn attend<S: Simd>(&self, images: usize, buffers: &Buffers) {
        let (shape, to, row) = (&self.all.shape, self.all.shared(), Rows::new(&self.all.shape));
        let Shape { sites, heads, wide, .. } = *shape;
        let blocks = sites.div_ceil(queries::<S>());
        for task in self.member.share(images * heads * blocks) {
            let (head, queries) = (task / blocks, Queries::block::<S>(task % blocks, sites));
            let (image, head) = (head / heads, head % heads);
            // SAFETY: guaranteed by the caller.
            unsafe {
                let qkv = (to.qkv.add(image * sites * row.qkv).cast_const(), row.qkv);
                let at = (image * sites + queries.first) * row.features + head * wide;
                let out = (to.out.add(at), row.features);
                let head = Head::new(shape, qkv, head, self.all.bias);
                head.attend_rows::<S>(buffers, queries, out);
            }
        }
    }

    /// The output of `count` positions from `first` on.
    #[inline(always)]
    unsafe fn output<S: Simd>(&self, first: usize, count: usize, more: *mut f32) {
        let (shape, row) = (&self.all.shape, Rows::new(&self.all.shape));
        let (c, width) = (shape.c, gemm::panel::<S>());
        let a = (self.all.shared().out.cast_const(), row.features, 1);
        let (b, size) = (self.all.packed.out.as_ptr(), [count, c, shape.features()]);
        let all = Panels { a, b, c: (more, width), shape: size, add: false };
        for part in Part::of::<S>(&self.member, [count, c]) {
            // SAFETY: guaranteed by the caller.
            unsafe {
                part.product::<S>(&all, (more, width));
                for site in 0..part.rows {
                    let at = (first + part.row + site) * c + part.column;
                    for k in (0..part.columns).step_by(S::LANES) {
                        // Added last, since sums that include x would round at the magnitude of x.
                        let more = S::load(more.add(site * width + k));
                        let y = S::add(S::load(self.all.x.add(at + k)), more);
                        S::store(self.all.y.add(at + k), y);
                    }
                }
            }
        }
    }
}

impl Work for Share<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (shape, member, row) = (&self.all.shape, &self.member, Rows::new(&self.all.shape));
        let Shape { images, sites, c, wide, .. } = *shape;
        let (keys, Shared { normal, qkv, .. }) = (KEYS.min(sites), self.all.shared());
        let mut buffers = Scratch::take(Buffers::len::<S>(wide, keys));
        let mut more = Scratch::take(PIECE * gemm::panel::<S>());
        let more = more.as_mut_ptr();
        // SAFETY: guaranteed by the caller; between barriers threads write to separate memory, and
        // do not write what others read.
        unsafe {
            let buffers = Buffers::new::<S>(buffers.as_mut_ptr(), wide, keys);
            for image in (0..images).step_by(block(shape)) {
                let images = block(shape).min(images - image);
                let (first, count) = (image * sites, images * sites);
                let mine = member.share(count);
                let x = self.all.x.add((first + mine.start) * c);
                let to = (normal.add(mine.start * row.channels), row.channels);
                normal_rows::<S>(x, to, (mine.len(), c));
                member.barrier();
                let a = (normal.cast_const(), row.channels, 1);
                let b = self.all.packed.qkv.as_ptr();
                let (c, size) = ((qkv, row.qkv), [count, 3 * shape.features(), c]);
                share::<S>(member, &Panels { a, b, c, shape: size, add: false });
                member.barrier();
                self.attend::<S>(images, &buffers);
                member.barrier();
                self.output::<S>(first, count, more);
            }
        }
    }
}
