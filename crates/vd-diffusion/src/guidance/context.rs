//! Known frames, held at a noise level of their own.

use tch::Tensor;
use vd_tensor_ops::Noise;

use super::known::{Known, Term};
use super::reconstruction::fits;
use crate::{Denoiser, Error, Levels, NoiseLevel, Progress, Result};

/// A denoiser that is shown known frames, clean or slightly noised, while the rest of the clip
/// follows the sampler.
///
/// The network must have been trained with one noise level per frame, of which some were that of
/// the context; it is asked through [`Denoiser::denoise_levels`]. The context is noised once, when
/// this is made. Whatever the sampler does, the known frames of x0-hat are what is known, and those
/// of a state are alpha times that, without noise.
///
/// # Reference
/// Chen et al. 2024, section 3, arXiv:2407.01392 (a noise level per frame); Ho et al. 2022,
/// arXiv:2106.15282 (slightly noised conditioning).
#[derive(Debug)]
pub struct ContextFrames<D> {
    inner: D,
    term: Term,
    index: Tensor,
    frames: Vec<i64>,
    /// What the network sees.
    shown: Tensor,
    at: NoiseLevel,
    shape: Vec<i64>,
}

impl<D: Denoiser> ContextFrames<D> {
    /// Shows `known`, whose `frames` say where they are, at the level `at`: a schedule's `at(0.0)`
    /// for clean ones. Draws from `noise` where there is noise at that level.
    ///
    /// # Shapes
    /// `known`: b c n ..., or 1 c n ...; `shape`: that of the state, b c f ...
    ///
    /// # Errors
    /// Frames that the clip has not, or values that do not fit them; a level that is not finite.
    pub fn new(
        inner: D,
        known: Tensor,
        frames: Vec<i64>,
        shape: &[i64],
        at: NoiseLevel,
        noise: &mut dyn Noise,
    ) -> Result<Self> {
        if !(at.alpha.is_finite() && at.sigma.is_finite() && at.alpha > 0.0 && at.sigma >= 0.0) {
            let got = format!("alpha = {}, sigma = {}", at.alpha, at.sigma);
            return Err(Error::value("level of the context", "alpha > 0 and sigma >= 0", got));
        }
        let term = Known::frames(known, frames.clone()).resolve(shape)?;
        let Some(index) = term.index().map(Tensor::shallow_clone) else {
            return Err(Error::tensor("state", "b c f ...", format!("{shape:?}")));
        };
        let mut shown = term.x0().f_mul_scalar(at.alpha)?;
        if at.sigma > 0.0 {
            shown = shown.f_add(&noise.normal(term.x0()).f_mul_scalar(at.sigma)?)?;
        }
        Ok(ContextFrames { inner, term, index, frames, shown, at, shape: shape.to_vec() })
    }

    fn with(&self, x: &Tensor, frames: &Tensor) -> Result<Tensor> {
        Ok(x.f_index_copy(2, &self.index, frames)?)
    }
}

impl<D: Denoiser> Denoiser for ContextFrames<D> {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        self.denoise_levels(x, &Levels::from(at))
    }

    fn denoise_levels(&self, x: &Tensor, at: &Levels) -> Result<Tensor> {
        fits(x, &self.shape, self.term.x0())?;
        let at = at.with_frames(&self.shape, &self.frames, self.at)?;
        let x0 = self.inner.denoise_levels(&self.with(x, &self.shown)?, &at)?;
        self.with(&x0, self.term.x0())
    }

    fn constrain(&self, x: Tensor, at: NoiseLevel, noise: &mut dyn Noise) -> Result<Tensor> {
        let x = self.inner.constrain(x, at, noise)?;
        fits(&x, &self.shape, self.term.x0())?;
        // With x0-hat what is known and no noise in the state, every sampler finds eps-hat = 0.
        self.with(&x, &self.term.x0().f_mul_scalar(at.alpha)?)
    }

    fn follow(&self, progress: Progress) {
        self.inner.follow(progress);
    }
}
