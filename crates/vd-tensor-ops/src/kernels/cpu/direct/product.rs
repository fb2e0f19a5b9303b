//! The matrix products of a convolution: rows of the input in place, times packed weights.

use super::phase::Phase;
use crate::kernels::cpu::Simd;
use crate::kernels::cpu::winograd::Source;

/// Number of inputs whose weights, a panel wide, fit the L1 cache together with the operands.
pub(super) const DEPTH: usize = 256;
/// Positions at a time: a multiple of the tile rows of every instruction set.
pub(super) const BLOCK: usize = 84;

/// How many rows of weights ahead are prefetched.
const AHEAD: usize = 8;

/// The input for padding.
pub(super) static ZEROS: [f32; DEPTH] = [0.0; DEPTH];

/// Adjacent values of the input, the same number for each position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Offset from the position.
    pub(super) down: isize,
    pub(super) across: isize,
    pub(super) source: usize,
    /// The first channel of the source, and how many values.
    pub(super) from: usize,
    pub(super) len: usize,
}

/// Runs whose products are computed together, and the row of the weights at which they start.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) runs: Vec<Run>,
    pub(super) row: usize,
}

/// The channels of each tap, at most [`DEPTH`] in a run.
pub(super) fn runs(phase: &Phase, sources: &[Source; 2]) -> Vec<Run> {
    let mut runs = Vec::new();
    for tap in &phase.taps {
        for (source, of) in sources.iter().enumerate() {
            for from in (0..of.channels).step_by(DEPTH) {
                let len = DEPTH.min(of.channels - from);
                runs.push(Run { down: tap.down, across: tap.across, source, from, len });
            }
        }
    }
    runs
}

/// Runs in steps of about equal depth; a single empty step if there are no inputs, so that the bias
/// is written.
pub(super) fn steps(runs: Vec<Run>) -> Vec<Step> {
    let depth: usize = runs.iter().map(|run| run.len).sum();
    let each = depth.div_ceil(depth.div_ceil(DEPTH).max(1));
    let mut steps = vec![Step { runs: Vec::new(), row: 0 }];
    let (mut row, mut deep) = (0, 0);
    for run in runs {
        if deep >= each {
            steps.push(Step { runs: Vec::new(), row });
            deep = 0;
        }
        (row, deep) = (row + run.len, deep + run.len);
        if let Some(step) = steps.last_mut() {
            step.runs.push(run);
        }
    }
    steps
}

/// A panel of outputs over positions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panel<'a> {
    pub(super) runs: &'a [Run],
    /// Where each run starts at each position; runs are [`BLOCK`] apart.
    pub(super) seen: *const *const f32,
    pub(super) weights: *const f32,
    /// The initial values of the sums, or null to continue from the outputs.
    pub(super) bias: *const f32,
    /// Each position's outputs, and the first of them to write.
    pub(super) outs: *const *mut f32,
    pub(super) first: usize,
}

impl Panel<'_> {
    /// # Safety
    /// As [`Simd`]; all pointers are valid for `count` positions, `Z` vectors of outputs.
    #[inline(always)]
    pub(super) unsafe fn run<S: Simd, const Z: usize>(&self, count: usize) {
        let mut i = 0;
        macro_rules! tiles {
            ($m:literal) => {
                while count - i >= $m {
                    // SAFETY: guaranteed by the caller; tiles cover positions 0..count once each.
                    unsafe { self.tile::<S, $m, Z>(i) };
                    i += $m;
                }
            };
        }
        if S::ROWS == 14 {
            tiles!(14);
            tiles!(7);
        } else if S::ROWS == 6 {
            tiles!(6);
        }
        tiles!(4);
        tiles!(2);
        tiles!(1);
    }

    /// `M` positions from `i`.
    #[inline(always)]
    unsafe fn tile<S: Simd, const M: usize, const Z: usize>(&self, i: usize) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let mut sum = [[S::zero(); Z]; M];
            for (m, sum) in sum.iter_mut().enumerate() {
                let from = if self.bias.is_null() {
                    (*self.outs.add(i + m)).cast_const().add(self.first)
                } else {
                    self.bias
                };
                for (z, sum) in sum.iter_mut().enumerate() {
                    *sum = S::load(from.add(z * S::LANES));
                }
            }
            let mut weights = self.weights;
            for (r, run) in self.runs.iter().enumerate() {
                let seen = self.seen.add(r * BLOCK + i);
                let from: [*const f32; M] = std::array::from_fn(|m| *seen.add(m));
                if from.iter().all(|at| *at == ZEROS.as_ptr()) {
                    weights = weights.add(run.len * 2 * S::LANES);
                    continue;
                }
                for k in 0..run.len {
                    let w: [S::V; Z] = std::array::from_fn(|z| S::load(weights.add(z * S::LANES)));
                    for z in 0..Z {
                        S::ahead(weights.wrapping_add((2 * AHEAD + z) * S::LANES));
                    }
                    for (m, sum) in sum.iter_mut().enumerate() {
                        let x = S::splat(*from[m].add(k));
                        for z in 0..Z {
                            sum[z] = S::fma(x, w[z], sum[z]);
                        }
                    }
                    weights = weights.add(2 * S::LANES);
                }
            }
            for (m, sum) in sum.iter().enumerate() {
                let to = (*self.outs.add(i + m)).add(self.first);
                for (z, sum) in sum.iter().enumerate() {
                    S::store(to.add(z * S::LANES), *sum);
                }
            }
        }
    }
}
