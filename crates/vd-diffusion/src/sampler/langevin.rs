//! The paper's predictor-corrector.

use tch::Tensor;
use vd_tensor_ops::Noise;

use super::{Interval, Sampler, Step};
use crate::error::in_range;
use crate::{NoiseLevel, Result};

/// A Langevin corrector step at each noise level, before another sampler leaves that level.
///
/// Every level that the inner sampler visits is corrected except the last, which gets no more
/// noise. A finite `delta` is biased: repeated indefinitely at one level, noised data of variance V
/// end at V / (1 - delta sigma^2 / (4 V)), so a smaller `delta` is more exact but corrects more
/// slowly.
///
/// # Range
/// `delta` in [0, 2]; 0.1 in the paper. At 0 it is the inner sampler at twice the cost.
///
/// # Reference
/// Ho et al. 2022, section 2, arXiv:2204.03458; Song et al. 2021, appendix G, arXiv:2011.13456. One
/// more evaluation per step than the inner sampler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Langevin<S> {
    /// The predictor.
    pub inner: S,
    /// Size of the corrector step, in units of sigma^2.
    pub delta: f64,
}

impl<S> Langevin<S> {
    pub(super) fn validate(&self) -> Result<()> {
        in_range("sampler langevin: delta", self.delta, 0.0, 2.0)
    }

    /// A state at the same level, closer to its density; the constraint must be applied to it
    /// again.
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
        // Multistep samplers need the state that was actually denoised.
        step.start = step.start.or(Some((over.from, x)));
        Ok(step)
    }
}
