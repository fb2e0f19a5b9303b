//! Known frames, held at their own noise level.

use tch::Tensor;
use vd_tensor_ops::Noise;

use super::known::{Known, Term};
use super::reconstruction::fits;
use crate::{Denoiser, Error, Levels, NoiseLevel, Progress, Result};

/// A denoiser that is given known frames, clean or slightly noised, while the rest of the clip
/// follows the sampler.
///
/// The network must have been trained with one noise level per frame, including that of the
/// context; it is called through [`Denoiser::denoise_levels`]. Noise is added to the context once,
/// at construction. Independently of the sampler, the known frames of x0-hat are the given ones,
/// and those of a state are alpha times these, without noise.
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
    /// The network's input for the known frames.
    shown: Tensor,
    at: NoiseLevel,
    shape: Vec<i64>,
}

impl<D: Denoiser> ContextFrames<D> {
    /// Inserts `known` at its `frames`, with the noise of the level `at`: a schedule's `at(0.0)`
    /// for clean frames. Draws from `noise` if that level has noise.
    ///
    /// # Shapes
    /// `known`: b c n ..., or 1 c n ...; `shape`: that of the state, b c f ...
    ///
    /// # Errors
    /// Frames outside the clip, or values that do not fit them; a level that is not finite.
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
        // As x0-hat is the known data and the state has no noise, every sampler computes eps-hat =
        // 0.
        self.with(&x, &self.term.x0().f_mul_scalar(at.alpha)?)
    }

    fn follow(&self, progress: Progress) {
        self.inner.follow(progress);
    }
}
