//! Weights in Winograd's space.

use vd_torch::team;

use super::scheme::{Four, Scheme, Two};
use super::{Tiles, transform};
use crate::kernels::cpu::{Block, Isa, Simd, Work, gemm};

/// Weights of a 3 x 3 convolution, transformed: for each point panels of columns (outputs), rows are
/// inputs.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(super) tiles: Tiles,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    lanes: usize,
    values: Block,
}

/// Where weights lie, and between which entries of theirs.
#[derive(Debug, Clone, Copy)]
struct Taps {
    at: *const f32,
    /// Values between neighbouring outputs and inputs.
    output: usize,
    input: usize,
    /// Whether the kernel is read from its end, as the gradient with respect to the input does.
    turned: bool,
}

// SAFETY: the weights are only read.
unsafe impl Sync for Taps {}

impl Packed {
    /// Of `weights` o i 3 3: the convolution, or that which takes the gradient of its output to the
    /// gradient of its input.
    ///
    /// # Safety
    /// `weights` is good for the shape; outputs (inputs of the gradient) are a multiple of the lanes.
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
        let mut packed = Packed { tiles, inputs, outputs, lanes, values: Block::new(size) };
        let to = To(packed.values.as_mut_slice().as_mut_ptr());
        let (packed_ref, to) = (&packed, &to);
        team(|member| {
            let vectors = packed_ref.width() / lanes;
            let (first, last) = {
                let range = member.share(vectors * inputs);
                (range.start, range.end)
            };
            let work = Transform { packed: packed_ref, taps, to: to.0, range: (first, last) };
            isa.run(work);
        });
        packed
    }

    /// Outputs with those that fill up the last panel.
    pub(super) fn width(&self) -> usize {
        self.outputs.next_multiple_of(2 * self.lanes)
    }

    /// The panels of a point.
    pub(super) fn point(&self, point: usize) -> *const f32 {
        // SAFETY: within the block, which has this many values for each of the points.
        unsafe { self.values.as_ptr().add(point * self.width() * self.inputs) }
    }
}

/// Where transformed weights go.
struct To(*mut f32);

// SAFETY: threads write apart from each other.
unsafe impl Sync for To {}

/// Some vectors of outputs for some inputs.
struct Transform<'a> {
    packed: &'a Packed,
    taps: Taps,
    to: *mut f32,
    range: (usize, usize),
}

impl Transform<'_> {
    #[inline(always)]
    unsafe fn all<S: Simd, T: Scheme<N, M>, const N: usize, const M: usize>(&self) {
        let (packed, taps) = (self.packed, self.taps);
        let point = packed.width() * packed.inputs;
        // As many taps as the widest set has lanes.
        let mut lanes = [0f32; 9 * 16];
        for number in self.range.0..self.range.1 {
            let (vector, i) = (number / packed.inputs, number % packed.inputs);
            let panel = (vector / 2) * 2 * S::LANES * packed.inputs;
            let at = panel + (2 * i + vector % 2) * S::LANES;
            // SAFETY: the caller's; outputs beyond the last are zeros and not read.
            unsafe {
                for lane in 0..S::LANES {
                    let o = vector * S::LANES + lane;
                    for tap in 0..9 {
                        let from = if taps.turned { 8 - tap } else { tap };
                        let at = o * taps.output + i * taps.input + from;
                        lanes[tap * S::LANES + lane] =
                            if o < packed.outputs { *taps.at.add(at) } else { 0.0 };
                    }
                }
                transform::weight::<S, T, N, M>(lanes.as_ptr(), self.to.add(at), point);
            }
        }
    }
}

impl Work for Transform<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's.
        unsafe {
            match self.packed.tiles {
                Tiles::Two => self.all::<S, Two, 4, 2>(),
                Tiles::Four => self.all::<S, Four, 6, 4>(),
            }
        }
    }
}
