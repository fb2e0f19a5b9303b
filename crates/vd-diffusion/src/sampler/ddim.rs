//! Denoising diffusion implicit models.

use tch::Tensor;
use vd_tensor_ops::Noise;

use super::moves::{add_noise, hold_x0};
use super::{Interval, Sampler, Step};
use crate::Result;
use crate::error::in_range;

/// One DDIM step: moves `x` along the line through x0-hat, plus a fraction `eta` of fresh noise.
///
/// # Range
/// `eta` in [0, 1]: 0 is deterministic (Euler's method), 1 is ancestral.
///
/// # Reference
/// Song, Meng & Ermon 2020, eq. 12, arXiv:2010.02502. Order 1; one evaluation per step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ddim {
    /// Amount of fresh noise: from none (0) to that of DDPM (1).
    pub eta: f64,
}

impl Ddim {
    pub(super) fn validate(self) -> Result<()> {
        in_range("sampler ddim: eta", self.eta, 0.0, 1.0)
    }
}

impl Sampler for Ddim {
    fn step(&self, x: &Tensor, over: &Interval<'_>, noise: &mut dyn Noise) -> Result<Step> {
        self.validate()?;
        let (from, to) = (over.from, over.to);
        let x0 = over.denoise(x, from)?;
        let variance = self.eta.powi(2) * from.posterior_variance(to);
        let mean = hold_x0(x, &x0, from, to.without(variance));
        Ok(Step::new(add_noise(mean, variance, over, noise), x0))
    }
}
