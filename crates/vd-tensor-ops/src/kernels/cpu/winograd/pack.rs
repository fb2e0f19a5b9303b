//! Weights in Winograd's space.

use vd_torch::team;

use super::scheme::{Four, Scheme, Two};
use super::{Tiles, transform};
use crate::kernels::cpu::{Block, Isa, Simd, Work, gemm};

/// Transformed weights of a 3 x 3 convolution: for each point, panels of columns (outputs); rows
/// are inputs.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(super) tiles: Tiles,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    lanes: usize,
    values: Block,
}

/// The source weights and their strides.
#[derive(Debug, Clone, Copy)]
struct Taps {
    at: *const f32,
    /// Stride between neighbouring outputs and inputs.
    output: usize,
    input: usize,
    /// Whether the kernel is reversed, as for the gradient with respect to the input.
    turned: bool,
}

// SAFETY: the weights are only read.
unsafe impl Sync for Taps {}

impl Packed {
    /// Transforms `weights` o i 3 3, for the convolution, or for the one that maps the gradient of
    /// its output to the gradient of its input.
    ///
    /// # Safety
    /// `weights` is valid for the shape; outputs (inputs of the gradient) are a multiple of the
    /// lanes.
    pub(crate) unsafe fn new(
        isa: Isa,
        tiles: Tiles,
        weights: *const f32,
        (outputs, inputs): (usize, usize),
        gradient: bool,
    ) -> Self {
        let (input, output) = (9, 9 * inputs);
        let taps = if gradient {
            Taps { at: weights, output: input, input: output, turned: true }
        } else {
            Taps { at: weights, output, input, turned: false }
        };
        let (inputs, outputs) = if gradient { (outputs, inputs) } else { (inputs, outputs) };
        let lanes = isa.lanes();
        let size = tiles.points() * gemm::packed_columns(lanes, inputs, outputs);
        let mut packed = Packed { tiles, inputs, outputs, lanes, values: Block::unset(size) };
        let to = To(packed.values.as_mut_ptr());
        let (packed_ref, to) = (&packed, &to);
        team(|member| {
            let panels = packed_ref.width() / (2 * lanes);
            let range = member.share(panels * inputs.div_ceil(RUN));
            let range = (range.start, range.end);
            isa.run(Transform { packed: packed_ref, taps, to: to.0, range });
        });
        packed
    }

    /// Number of outputs, including the padding of the last panel.
    pub(super) fn width(&self) -> usize {
        self.outputs.next_multiple_of(2 * self.lanes)
    }

    /// The panels of a point.
    pub(super) fn point(&self, point: usize) -> *const f32 {
        // SAFETY: within the block, which has this many values for each of the points.
        unsafe { self.values.as_ptr().add(point * self.width() * self.inputs) }
    }
}

/// Target of the transformed weights.
struct To(*mut f32);

// SAFETY: threads write to separate memory.
unsafe impl Sync for To {}

/// Inputs that are transformed before they are written, so that whole cache lines are written for
/// one point after another. Points are a power of two apart, so single vectors of all points would
/// evict each other from the L1 cache.
const RUN: usize = 8;

/// Panels of outputs for some inputs, in pieces of [`RUN`].
struct Transform<'a> {
    packed: &'a Packed,
    taps: Taps,
    to: *mut f32,
    range: (usize, usize),
}

impl Transform<'_> {
    #[inline(always)]
    unsafe fn all<S: Simd, T: Scheme<N, M>, const N: usize, const M: usize>(&self) {
        let packed = self.packed;
        let (pieces, width) = (packed.inputs.div_ceil(RUN), 2 * S::LANES);
        let point = packed.width() * packed.inputs;
        // As much as the widest instruction set needs.
        let mut run = [0f32; 36 * RUN * 2 * 16];
        for number in self.range.0..self.range.1 {
            let (panel, first) = (number / pieces, number % pieces * RUN);
            let inputs = RUN.min(packed.inputs - first);
            // SAFETY: guaranteed by the caller; a run has room for all points of its inputs, and a
            // panel for the run.
            unsafe {
                for i in 0..inputs {
                    for half in 0..2 {
                        let at = run.as_mut_ptr().add(i * width + half * S::LANES);
                        self.one::<S, T, N, M>(2 * panel + half, first + i, at);
                    }
                }
                let to = self.to.add((panel * packed.inputs + first) * width);
                for k in 0..N * N {
                    let from = run.as_ptr().add(k * RUN * width);
                    from.copy_to_nonoverlapping(to.add(k * point), inputs * width);
                }
            }
        }
    }

    /// All points of a vector of outputs for one input.
    #[inline(always)]
    unsafe fn one<S: Simd, T: Scheme<N, M>, const N: usize, const M: usize>(
        &self,
        vector: usize,
        i: usize,
        to: *mut f32,
    ) {
        let taps = self.taps;
        // As many taps as the widest instruction set has lanes.
        let mut lanes = [0f32; 9 * 16];
        // SAFETY: guaranteed by the caller; outputs beyond the last are zeros and not read.
        unsafe {
            for lane in 0..S::LANES {
                let o = vector * S::LANES + lane;
                for tap in 0..9 {
                    let from = if taps.turned { 8 - tap } else { tap };
                    let at = o * taps.output + i * taps.input + from;
                    lanes[tap * S::LANES + lane] =
                        if o < self.packed.outputs { *taps.at.add(at) } else { 0.0 };
                }
            }
            transform::weight::<S, T, N, M>(lanes.as_ptr(), to, RUN * 2 * S::LANES);
        }
    }
}

impl Work for Transform<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            match self.packed.tiles {
                Tiles::Two => self.all::<S, Two, 4, 2>(),
                Tiles::Four => self.all::<S, Four, 6, 4>(),
            }
        }
    }
}
