//! DPM-Solver++(2M) and its SDE version.

use tch::Tensor;
use vd_tensor_ops::Noise;

use super::moves::{add_noise, hold_x0};
use super::{Interval, LastSteps, LineRule, Sampler, Step};
use crate::Result;
use crate::error::in_range;

/// DPM-Solver++ of second order over the last two x0-hat: the flow at `eta` = 0, its SDE at 1.
///
/// # Range
/// `eta` in [0, 1].
///
/// # Reference
/// Lu et al. 2022, algorithm 2 (2M) and section 5 (SDE), arXiv:2211.01095. Order 2 at eta = 0,
/// weak order 2 at eta = 1; one evaluation per step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DpmPp2m {
    /// Amount of fresh noise: from none (0) to that of the reverse SDE (1).
    pub eta: f64,
    /// How the line through the two x0-hat is averaged; by its midpoint in the paper.
    pub line: LineRule,
    /// Order of the last steps.
    pub last: LastSteps,
}

impl DpmPp2m {
    /// The paper's form, falling to first order on the last step.
    pub fn new(eta: f64) -> Self {
        DpmPp2m { eta, line: LineRule::Midpoint, last: LastSteps::Fall }
    }

    pub(super) fn validate(self) -> Result<()> {
        in_range("sampler dpmpp-2m-sde: eta", self.eta, 0.0, 1.0)
    }
}

impl Sampler for DpmPp2m {
    fn step(&self, x: &Tensor, over: &Interval<'_>, noise: &mut dyn Noise) -> Result<Step> {
        self.validate()?;
        let (from, to) = (over.from, over.to);
        let x0 = over.denoise(x, from)?;
        let held = match &over.recent(x, &x0, self.last.order(2, over))[..] {
            [_, before] => self.line.mean(&x0, before, over, 1.0 + self.eta),
            _ => x0.shallow_clone(),
        };
        let variance = over.sde_variance(self.eta);
        let mean = hold_x0(x, &held, from, to.without(variance));
        Ok(Step::new(add_noise(mean, variance, over, noise), x0))
    }
}
