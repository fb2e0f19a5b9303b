//! The paper's predictor-corrector.

use tch::Tensor;
use vd_tensor_ops::Noise;

use super::{Interval, Sampler, Step};
use crate::error::in_range;
use crate::{NoiseLevel, Result};

/// A Langevin step at each noise level before another sampler leaves it.
///
/// Every level that the inner sampler comes to is corrected but the last one, which is left as
/// clean as it is. A finite `delta` is biased: at one level for ever, data of variance V (noised)
/// end at V / (1 - delta sigma^2 / (4 V)), so that smaller is more exact and slower to correct.
///
/// # Range
/// `delta` in [0, 2]; the paper takes 0.1. At 0 it is the inner sampler at twice the cost.
///
/// # Reference
/// Ho et al. 2022, section 2, arXiv:2204.03458; Song et al. 2021, appendix G, arXiv:2011.13456.
/// One evaluation more per step than the inner sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Langevin<S> {
    /// The predictor.
    pub inner: S,
    /// Size of the correcting step, in units of sigma^2.
    pub delta: f64,
}

impl<S> Langevin<S> {
    pub(super) fn validate(&self) -> Result<()> {
        in_range("sampler langevin: delta", self.delta, 0.0, 2.0)
    }

    /// A state at the same level, nearer to its density; it has to meet the constraint anew.
    fn correct(&self, x: &Tensor, over: &Interval<'_>, noise: &mut dyn Noise) -> Result<Tensor> {
        let at = over.from;
        let eps = at.eps(x, &over.denoise(x, at)?);
        let unit = noise.normal(x);
        let corrected =
            x - eps * (0.5 * self.delta * at.sigma) + unit * (self.delta.sqrt() * at.sigma);
        over.denoiser.constrain(corrected, at, noise)
    }
}

impl<S: Sampler> Sampler for Langevin<S> {
    fn plan(&self, grid: Vec<NoiseLevel>) -> Vec<NoiseLevel> {
        self.inner.plan(grid)
    }

    fn step(&self, x: &Tensor, over: &Interval<'_>, noise: &mut dyn Noise) -> Result<Step> {
        self.validate()?;
        let x = self.correct(x, over, noise)?;
        let mut step = self.inner.step(&x, over, noise)?;
        // Multistep samplers look back at the state that was really denoised.
        step.start = step.start.or(Some((over.from, x)));
        Ok(step)
    }
}
