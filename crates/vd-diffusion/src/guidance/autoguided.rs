//! Autoguidance: guidance by a worse version of the same network.

use tch::Tensor;
use vd_tensor_ops::Noise;

use super::config::NoiseRange;
use crate::denoiser::same_shape;
use crate::{Denoiser, Error, Levels, NoiseLevel, Progress, Result};

/// A denoiser guided away from a worse one: guide + scale (main - guide), on x0-hat.
///
/// The guide is a smaller or less trained network, with the same conditioning and the same
/// schedule. Both may have guidance or context frames of their own. Constraints on the state are
/// those of the main denoiser.
///
/// # Range
/// `scale` is finite; 1 is off, and the guide is then not evaluated.
///
/// # Reference
/// Karras et al. 2024, equation 3, arXiv:2406.02507.
#[derive(Debug)]
pub struct Autoguided<D, G> {
    main: D,
    guide: G,
    scale: f64,
    within: NoiseRange,
}

impl<D: Denoiser, G: Denoiser> Autoguided<D, G> {
    /// Guides `main` by `guide`, at the noise levels in `within`.
    ///
    /// # Errors
    /// A scale that is not finite; a range with reversed ends.
    pub fn new(main: D, guide: G, scale: f64, within: NoiseRange) -> Result<Self> {
        if !scale.is_finite() {
            return Err(Error::value("autoguidance scale", "a finite number, 1 for none", scale));
        }
        within.validate()?;
        Ok(Autoguided { main, guide, scale, within })
    }

    fn acts(&self, at: NoiseLevel) -> bool {
        self.scale != 1.0 && self.within.contains(at)
    }
}

impl<D: Denoiser, G: Denoiser> Denoiser for Autoguided<D, G> {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        let main = self.main.denoise(x, at)?;
        if !self.acts(at) {
            return Ok(main);
        }
        let guide = self.guide.denoise(x, at)?;
        same_shapes(x, &main, &guide)?;
        Ok(guide.f_add(&main.f_sub(&guide)?.f_mul_scalar(self.scale)?)?)
    }

    fn denoise_levels(&self, x: &Tensor, at: &Levels) -> Result<Tensor> {
        let main = self.main.denoise_levels(x, at)?;
        if !at.values().iter().any(|at| self.acts(*at)) {
            return Ok(main);
        }
        let guide = self.guide.denoise_levels(x, at)?;
        same_shapes(x, &main, &guide)?;
        at.mix(&main, &guide, |at| {
            Ok(if self.acts(at) { (self.scale, 1.0 - self.scale) } else { (1.0, 0.0) })
        })
    }

    fn constrain(&self, x: Tensor, at: NoiseLevel, noise: &mut dyn Noise) -> Result<Tensor> {
        self.main.constrain(x, at, noise)
    }

    fn follow(&self, progress: Progress) {
        self.main.follow(progress);
        self.guide.follow(progress);
    }
}

fn same_shapes(x: &Tensor, main: &Tensor, guide: &Tensor) -> Result<()> {
    same_shape("x0-hat of the main denoiser", x, main)?;
    same_shape("x0-hat of the guide", x, guide)
}
