//! The gradient of the weights, in Winograd's space.
//!
//! At each point it is a matrix product over tiles: inputs transposed times transformed gradients
//! of the outputs.

use vd_torch::{Member, team};

use super::scheme::Four;
use super::transform::{self, Image};
use super::{GAP, Source};
use crate::kernels::cpu::{Isa, Scratch, Simd, Work, gemm};

/// Points along an axis, and outputs.
const N: usize = 6;
const M: usize = 4;
/// Tiles at a time.
const BLOCK: usize = 168;

/// Pointers and sizes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WeightGrad {
    /// The inputs: the second's channels follow the first's, and may be zero in number.
    pub(crate) sources: [Source; 2],
    /// The gradient of the output.
    pub(crate) grad: Source,
    pub(crate) images: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    /// o i 3 3
    pub(crate) out: *mut f32,
}

// SAFETY: threads only read shared data, and write to separate memory.
unsafe impl Sync for WeightGrad {}

/// Shared by all threads.
struct Plan {
    down: usize,
    across: usize,
    tiles: usize,
    inputs: usize,
    outputs: usize,
    /// Points of inputs and of gradients, and their products.
    points: *mut f32,
    spread: *mut f32,
    products: *mut f32,
}

// SAFETY: as for `WeightGrad`.
unsafe impl Sync for Plan {}

impl WeightGrad {
    /// # Safety
    /// Pointers are valid for the shapes; channels are a multiple of the lanes.
    pub(crate) unsafe fn run(&self, isa: Isa) {
        let (down, across) = (self.h.div_ceil(M), self.w.div_ceil(M));
        let tiles = self.images * down * across;
        let inputs = self.sources[0].channels + self.sources[1].channels;
        let outputs = self.grad.channels;
        let block = tiles.min(BLOCK);
        let mut points = Scratch::take(N * N * block * (inputs + GAP));
        let mut spread = Scratch::take(N * N * block * (outputs + GAP));
        let mut products = Scratch::take(N * N * inputs * outputs);
        let plan = Plan {
            down,
            across,
            tiles,
            inputs,
            outputs,
            points: points.as_mut_ptr(),
            spread: spread.as_mut_ptr(),
            products: products.as_mut_ptr(),
        };
        let plan = &plan;
        team(|member| isa.run(Share { all: self, plan, member }));
    }
}

/// The work of one thread.
struct Share<'a> {
    all: &'a WeightGrad,
    plan: &'a Plan,
    member: Member<'a>,
}

impl Share<'_> {
    /// Transforms tile `tile` to row `row` of the points of inputs and gradients, in blocks of
    /// `block` rows.
    #[inline(always)]
    unsafe fn gather<S: Simd>(&self, tile: usize, row: usize, block: usize) {
        let (all, plan) = (self.all, self.plan);
        let (image, rest) = (tile / (plan.down * plan.across), tile % (plan.down * plan.across));
        let corner = (rest / plan.across * M, rest % plan.across * M);
        let view = |source: Source| Image {
            // SAFETY: guaranteed by the caller; images are adjacent in memory.
            at: unsafe { source.at.add(image * all.h * all.w * source.channels) },
            h: all.h,
            w: all.w,
            c: source.channels,
        };
        let rows = (plan.inputs + GAP, plan.outputs + GAP);
        let mut first = row * rows.0;
        // SAFETY: guaranteed by the caller; the buffers have a row for each tile of a block.
        unsafe {
            for source in all.sources.into_iter().filter(|source| source.channels > 0) {
                let to = plan.points.add(first);
                transform::input::<S, Four, N, M>(view(source), corner, to, block * rows.0);
                first += source.channels;
            }
            let to = plan.spread.add(row * rows.1);
            transform::spread::<S>(view(all.grad), corner, to, block * rows.1);
        }
    }

    /// Adds the product of a point over `count` tiles.
    #[inline(always)]
    unsafe fn product<S: Simd, const ADD: bool>(&self, point: usize, count: usize) {
        let plan = self.plan;
        let rows = (plan.inputs + GAP, plan.outputs + GAP);
        // SAFETY: guaranteed by the caller.
        unsafe {
            let a = (plan.points.cast_const().add(point * count * rows.0), 1, rows.0);
            let b = plan.spread.cast_const().add(point * count * rows.1);
            let c = plan.products.add(point * plan.inputs * plan.outputs);
            let mut o = 0;
            while o + 2 * S::LANES <= plan.outputs {
                let (b, c) = ((b.add(o), rows.1), (c.add(o), plan.outputs));
                gemm::rows::<S, 2, ADD>(a, b, c, (plan.inputs, count));
                o += 2 * S::LANES;
            }
            if o < plan.outputs {
                let (b, c) = ((b.add(o), rows.1), (c.add(o), plan.outputs));
                gemm::rows::<S, 1, ADD>(a, b, c, (plan.inputs, count));
            }
        }
    }

    /// Taps of some vectors of outputs for some inputs.
    #[inline(always)]
    unsafe fn taps<S: Simd>(&self) {
        let plan = self.plan;
        let mut lanes = [0f32; 9 * 16];
        for number in self.member.share(plan.outputs / S::LANES * plan.inputs) {
            let (vector, i) = (number / plan.inputs, number % plan.inputs);
            let o = vector * S::LANES;
            // SAFETY: guaranteed by the caller.
            unsafe {
                let from = plan.products.cast_const().add(i * plan.outputs + o);
                let from = (from, plan.inputs * plan.outputs);
                transform::taps::<S>(from, lanes.as_mut_ptr());
                for lane in 0..S::LANES {
                    let to = self.all.out.add(((o + lane) * plan.inputs + i) * 9);
                    for tap in 0..9 {
                        *to.add(tap) = lanes[tap * S::LANES + lane];
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
        let tiles = self.plan.tiles;
        // SAFETY: guaranteed by the caller; barriers separate the steps.
        unsafe {
            for first in (0..tiles).step_by(BLOCK) {
                let count = BLOCK.min(tiles - first);
                for k in self.member.share(count) {
                    self.gather::<S>(first + k, k, count);
                }
                self.member.barrier();
                for point in self.member.share(N * N) {
                    if first == 0 {
                        self.product::<S, false>(point, count);
                    } else {
                        self.product::<S, true>(point, count);
                    }
                }
                self.member.barrier();
            }
            self.taps::<S>();
        }
    }
}
