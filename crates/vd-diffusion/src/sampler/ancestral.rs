//! Ancestral sampling.

use tch::Tensor;
use vd_tensor_ops::Noise;

use super::moves::{add_noise, hold_x0};
use super::{Interval, Sampler, Step};
use crate::Result;
use crate::error::in_range;

/// DDPM's step, with a variance interpolated (logarithmically) between DDPM's two choices.
///
/// # Range
/// `gamma` in [0, 1]: 0 is the posterior variance ("fixed small", as in `video-diffusion-pytorch`),
/// 1 that of the forward process ("fixed large").
///
/// # Reference
/// Ho et al. 2020, section 3.2, arXiv:2006.11239; Ho et al. 2022, equation 4, arXiv:2204.03458.
/// Weak order 1; one evaluation per step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ancestral {
    /// From the small variance (0) to the large one (1).
    pub gamma: f64,
}

impl Ancestral {
    pub(super) fn validate(self) -> Result<()> {
        in_range("sampler ancestral: gamma", self.gamma, 0.0, 1.0)
    }
}

impl Sampler for Ancestral {
    fn step(&self, x: &Tensor, over: &Interval<'_>, noise: &mut dyn Noise) -> Result<Step> {
        self.validate()?;
        let (from, to) = (over.from, over.to);
        let x0 = over.denoise(x, from)?;
        let (small, large) = (from.posterior_variance(to), from.variance_given(to));
        let mean = hold_x0(x, &x0, from, to.without(small));
        let variance = small.powf(1.0 - self.gamma) * large.powf(self.gamma);
        // The large variance is not 0 on a step to clean, where no noise may be added.
        let variance = if to.sigma == 0.0 { 0.0 } else { variance };
        Ok(Step::new(add_noise(mean, variance, over, noise), x0))
    }
}
