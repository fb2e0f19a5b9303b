//! All that a sampler sees of a network.

use tch::Tensor;
use vd_tensor_ops::{FrameMask, Noise};
use vd_unet3d::{Backbone, Cond};

use crate::{Diffusion, Error, Levels, NoiseLevel, Result};

/// How far a run has come, as [`Denoiser::follow`] is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// A run from noise to data begins.
    Sampling {
        /// How many it has; raising is none.
        steps: usize,
    },
    /// A run from data to noise begins: an inversion, a likelihood.
    Inverting {
        /// How many it has.
        steps: usize,
    },
    /// A step is done.
    Step,
    /// Noise was added to the state, to sample on from there.
    Raised,
}

/// All that a sampler sees of a network, its guidance and its conditions.
pub trait Denoiser {
    /// x0-hat: the mean of the clean tensors that this noisy one may have come from.
    ///
    /// Differentiable in `x`; it never turns gradients off.
    ///
    /// # Shapes
    /// `x`: b ...; result: the same
    ///
    /// # Errors
    /// Whatever the network refuses.
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor>;

    /// x0-hat of a batch whose samples or frames are at noise levels of their own.
    ///
    /// By default only levels that are all the same are taken, and go to [`Denoiser::denoise`].
    ///
    /// # Shapes
    /// `x`: b ..., with frames as the third axis where the levels are per frame; result: the same
    ///
    /// # Errors
    /// Levels that do not fit the batch; levels that differ, of a denoiser that takes one for all;
    /// whatever the network refuses.
    fn denoise_levels(&self, x: &Tensor, at: &Levels) -> Result<Tensor> {
        match at.shared() {
            Some(level) => self.denoise(x, level),
            None => Err(Error::Level(format!(
                "this denoiser takes one noise level for the whole batch, got {} that are not all \
                 the same; implement `Denoiser::denoise_levels` for it",
                at.values().len()
            ))),
        }
    }

    /// What must hold of a state: sampling calls it on every new one, the first included.
    ///
    /// Replacement of known pixels is done here; wrappers forward it.
    ///
    /// # Errors
    /// A state that does not fit what is known.
    fn constrain(&self, x: Tensor, at: NoiseLevel, noise: &mut dyn Noise) -> Result<Tensor> {
        let _ = (at, noise);
        Ok(x)
    }

    /// Where a run stands, for guidance that remembers something from step to step.
    ///
    /// [`sample`](crate::sample), [`invert`](crate::invert) and
    /// [`log_likelihood`](crate::log_likelihood) call it before anything of a run is asked and
    /// after each of its steps; wrappers forward it to all that they ask.
    fn follow(&self, progress: Progress) {
        let _ = progress;
    }
}

impl<D: Denoiser + ?Sized> Denoiser for &D {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        (**self).denoise(x, at)
    }

    fn denoise_levels(&self, x: &Tensor, at: &Levels) -> Result<Tensor> {
        (**self).denoise_levels(x, at)
    }

    fn constrain(&self, x: Tensor, at: NoiseLevel, noise: &mut dyn Noise) -> Result<Tensor> {
        (**self).constrain(x, at, noise)
    }

    fn follow(&self, progress: Progress) {
        (**self).follow(progress);
    }
}

impl<D: Denoiser + ?Sized> Denoiser for Box<D> {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        (**self).denoise(x, at)
    }

    fn denoise_levels(&self, x: &Tensor, at: &Levels) -> Result<Tensor> {
        (**self).denoise_levels(x, at)
    }

    fn constrain(&self, x: Tensor, at: NoiseLevel, noise: &mut dyn Noise) -> Result<Tensor> {
        (**self).constrain(x, at, noise)
    }

    fn follow(&self, progress: Progress) {
        (**self).follow(progress);
    }
}

/// A network under fixed conditions, read as a denoiser.
#[derive(Debug)]
pub struct ModelDenoiser<'a> {
    diffusion: &'a Diffusion,
    backbone: &'a dyn Backbone,
    cond: Cond,
    frames: FrameMask,
}

impl<'a> ModelDenoiser<'a> {
    pub(crate) fn new(
        diffusion: &'a Diffusion,
        backbone: &'a dyn Backbone,
        cond: Cond,
        frames: FrameMask,
    ) -> Self {
        ModelDenoiser { diffusion, backbone, cond, frames }
    }
}

impl Denoiser for ModelDenoiser<'_> {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        self.denoise_levels(x, &Levels::from(at))
    }

    fn denoise_levels(&self, x: &Tensor, at: &Levels) -> Result<Tensor> {
        let out = ask(self.diffusion, self.backbone, x, at, &self.cond, &self.frames)?;
        self.diffusion.parameterization().to_x0(x, &out, at)
    }
}

/// One evaluation of the network, not trained.
pub(crate) fn ask(
    diffusion: &Diffusion,
    backbone: &dyn Backbone,
    x: &Tensor,
    at: &Levels,
    cond: &Cond,
    frames: &FrameMask,
) -> Result<Tensor> {
    let b = x.size().first().copied().unwrap_or(1);
    let t = at.time_input(diffusion.schedule(), b, x);
    let shown = diffusion.parameterization().shown(x, at)?;
    let out = backbone.forward(&shown, &t, cond, frames, None)?;
    answer(x, out)
}

/// What the network said, checked against what it was asked.
pub(crate) fn answer(x: &Tensor, out: Tensor) -> Result<Tensor> {
    same_shape("output of the network", x, &out)?;
    Ok(out.f_to_kind(x.kind())?)
}

/// Refuses an answer of another shape than its question, though it may broadcast.
pub(crate) fn same_shape(what: &str, x: &Tensor, out: &Tensor) -> Result<()> {
    if out.size() == x.size() {
        return Ok(());
    }
    let expected = format!("the shape of its input, {:?}", x.size());
    Err(Error::tensor(what, expected, format!("{:?}", out.size())))
}
