//! Weights packed for the matrix products.

use std::ops::Range;

use vd_torch::team;

use super::phase::{Phase, Way, Window, phases};
use crate::kernels::cpu::{Block, Isa};

/// Inputs packed at a time, so that source and target stay in the L1 cache.
const CHUNK: usize = 16;

/// Weights of a convolution: for each phase, panels of two vectors of outputs; rows are the inputs
/// of the first tap, then of the second one and so on.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(super) window: Window,
    pub(super) way: Way,
    pub(super) phases: Vec<Phase>,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    lanes: usize,
    /// Where each phase starts.
    starts: Vec<usize>,
    values: Block,
}

/// The source weights.
#[derive(Debug, Clone, Copy)]
struct From {
    at: *const f32,
    /// Distance, in values, between neighbouring outputs and inputs.
    output: usize,
    input: usize,
}

// SAFETY: the weights are only read.
unsafe impl Sync for From {}

/// The target of the packed weights.
struct To(*mut f32);

// SAFETY: threads write to separate memory.
unsafe impl Sync for To {}

impl Packed {
    /// Packs `weights` o i k k; transposed they map o channels to i.
    ///
    /// # Safety
    /// `weights` is valid for the shape.
    pub(super) unsafe fn new(
        isa: Isa,
        (window, way): (Window, Way),
        weights: *const f32,
        (o, i): (usize, usize),
    ) -> Self {
        let area = window.kernel * window.kernel;
        let (inputs, outputs, from) = match way {
            Way::Straight => (i, o, From { at: weights, output: i * area, input: area }),
            Way::Transposed => (o, i, From { at: weights, output: area, input: i * area }),
        };
        let (phases, lanes) = (phases(window, way), isa.lanes());
        let mut starts = vec![0];
        for phase in &phases {
            let size = phase.taps.len() * inputs * outputs.next_multiple_of(2 * lanes);
            starts.push(starts[starts.len() - 1] + size);
        }
        let values = Block::new(starts[starts.len() - 1]);
        let mut packed = Packed { window, way, phases, inputs, outputs, lanes, starts, values };
        let to = To(packed.values.as_mut_slice().as_mut_ptr());
        let (whole, to, from) = (&packed, &to, &from);
        let (panels, chunks) = (packed.panels(), inputs.div_ceil(CHUNK));
        team(|member| {
            for number in member.share(panels * chunks) {
                let first = number % chunks * CHUNK;
                let inputs = first..inputs.min(first + CHUNK);
                // SAFETY: guaranteed by the caller; each panel and chunk is written by one thread.
                unsafe { whole.pack(from, to.0, number / chunks, inputs) };
            }
        });
        packed
    }

    /// Packs some inputs of a panel of all phases; missing outputs stay zeros.
    ///
    /// Each input's taps are transposed in a small buffer: outputs and taps lie powers of two
    /// apart, so the L1 cache cannot hold them at the same time.
    unsafe fn pack(&self, from: &From, to: *mut f32, panel: usize, inputs: Range<usize>) {
        let (width, area) = (2 * self.lanes, self.window.kernel * self.window.kernel);
        let outputs = panel * width..self.outputs.min((panel + 1) * width);
        let mut rows = vec![0f32; area * width];
        for input in inputs {
            for (lane, output) in outputs.clone().enumerate() {
                let at = output * from.output + input * from.input;
                for (tap, row) in rows.chunks_exact_mut(width).enumerate() {
                    // SAFETY: guaranteed by the caller.
                    row[lane] = unsafe { *from.at.add(at + tap) };
                }
            }
            for (phase, start) in self.phases.iter().zip(&self.starts) {
                let start = start + panel * width * self.depth(phase);
                for (k, tap) in phase.taps.iter().enumerate() {
                    let row = &rows[tap.number * width..][..width];
                    // SAFETY: guaranteed by the caller.
                    unsafe {
                        let to = to.add(start + (k * self.inputs + input) * width);
                        row.as_ptr().copy_to_nonoverlapping(to, width);
                    }
                }
            }
        }
    }

    fn depth(&self, phase: &Phase) -> usize {
        phase.taps.len() * self.inputs
    }

    /// Number of panels that hold all outputs.
    pub(super) fn panels(&self) -> usize {
        self.outputs.div_ceil(2 * self.lanes)
    }

    /// Row `row` of a panel of a phase.
    pub(super) fn at(&self, phase: usize, panel: usize, row: usize) -> *const f32 {
        let depth = self.depth(&self.phases[phase]);
        let at = self.starts[phase] + (panel * depth + row) * 2 * self.lanes;
        // SAFETY: within the block, or, for the row after the last one, at its end.
        unsafe { self.values.as_ptr().add(at) }
    }
}
