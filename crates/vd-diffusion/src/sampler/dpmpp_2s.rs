//! DPM-Solver++(2S), ancestral.

use tch::Tensor;
use vd_tensor_ops::Noise;

use super::moves::{add_noise, hold_x0};
use super::{Interval, Sampler, Step};
use crate::Result;
use crate::error::in_range;

/// The midpoint rule on x0-hat, to a level below the target, followed by fresh noise.
///
/// The midpoint lies at the mean log-SNR of the two ends of the deterministic part.
///
/// # Range
/// `eta` in [0, 1]: 0 is deterministic, 1 removes and adds as much noise as ancestral sampling.
///
/// # Reference
/// Lu et al. 2022, algorithm 1 (r = 1/2), arXiv:2211.01095; ancestral as `sample_dpmpp_2s_ancestral`
/// of k-diffusion. Order 2 at eta = 0, weak order 2 at eta = 1; two evaluations per step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DpmPp2s {
    /// Amount of fresh noise: from none (0) to that of ancestral sampling (1).
    pub eta: f64,
}

impl DpmPp2s {
    pub(super) fn validate(self) -> Result<()> {
        in_range("sampler dpmpp-2s-ancestral: eta", self.eta, 0.0, 1.0)
    }
}

impl Sampler for DpmPp2s {
    fn step(&self, x: &Tensor, over: &Interval<'_>, noise: &mut dyn Noise) -> Result<Step> {
        self.validate()?;
        let (from, to) = (over.from, over.to);
        let x0 = over.denoise(x, from)?;
        let variance = self.eta.powi(2) * from.posterior_variance(to);
        let down = to.without(variance);
        let held = if from.alpha > 0.0 && down.sigma > 0.0 {
            let middle = over.schedule.at_log_snr(0.5 * (from.log_snr() + down.log_snr()));
            over.denoise(&hold_x0(x, &x0, from, middle), middle)?
        } else {
            x0.shallow_clone()
        };
        let mean = hold_x0(x, &held, from, down);
        Ok(Step::new(add_noise(mean, variance, over, noise), x0))
    }
}
