//! The interface through which a sampler sees a network.

use tch::Tensor;
use vd_tensor_ops::{FrameMask, Noise};
use vd_unet3d::{Backbone, Cond};

use crate::diffusion::check_frames;
use crate::{Diffusion, Error, Levels, NoiseLevel, Result};

/// Progress of a run, as passed to [`Denoiser::follow`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// A run from noise to data begins.
    Sampling {
        /// Number of steps; adding noise ([`Progress::Raised`]) does not count as one.
        steps: usize,
    },
    /// A run from data to noise begins: an inversion or a likelihood.
    Inverting {
        /// Number of steps.
        steps: usize,
    },
    /// A step is done.
    Step,
    /// Noise was added to the state; sampling continues from there.
    Raised,
}

/// All that a sampler sees of a network, its guidance and its conditioning.
pub trait Denoiser {
    /// x0-hat: the mean of the clean tensors that may have led to this noisy one.
    ///
    /// Differentiable in `x`: an implementation does not disable gradients.
    ///
    /// # Shapes
    /// `x`: b ...; result: the same
    ///
    /// # Errors
    /// Any error of the network.
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor>;

    /// x0-hat of a batch whose samples or frames have separate noise levels.
    ///
    /// The default accepts only levels that are all equal, and calls [`Denoiser::denoise`].
    ///
    /// # Shapes
    /// `x`: b ..., with frames as the third axis where the levels are per frame; result: the same
    ///
    /// # Errors
    /// Levels that do not fit the batch; differing levels, if the denoiser takes only one for the
    /// whole batch; any error of the network.
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

    /// Enforces constraints on a state: sampling calls it on every new state, including the first.
    ///
    /// Known pixels are replaced here; wrappers forward the call.
    ///
    /// # Errors
    /// A state whose shape does not fit the known part.
    fn constrain(&self, x: Tensor, at: NoiseLevel, noise: &mut dyn Noise) -> Result<Tensor> {
        let _ = (at, noise);
        Ok(x)
    }

    /// Reports the progress of a run, for guidance that carries state from step to step.
    ///
    /// [`sample`](crate::sample), [`invert`](crate::invert) and
    /// [`log_likelihood`](crate::log_likelihood) call it before the first evaluation of a run and
    /// after each of its steps; wrappers forward it to every denoiser they call.
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

/// A network under fixed conditioning, as a denoiser.
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

/// One evaluation of the network, in evaluation mode.
pub(crate) fn ask(
    diffusion: &Diffusion,
    backbone: &dyn Backbone,
    x: &Tensor,
    at: &Levels,
    cond: &Cond,
    frames: &FrameMask,
) -> Result<Tensor> {
    check_frames(frames, x)?;
    let b = x.size().first().copied().unwrap_or(1);
    let t = at.time_input(diffusion.schedule(), b, x);
    let shown = diffusion.parameterization().shown(x, at)?;
    let out = backbone.forward(&shown, &t, cond, frames, None)?;
    answer(x, out)
}

/// The output of the network, with its shape checked against the input.
pub(crate) fn answer(x: &Tensor, out: Tensor) -> Result<Tensor> {
    same_shape("output of the network", x, &out)?;
    Ok(out.f_to_kind(x.kind())?)
}

/// Refuses an output whose shape differs from that of the input, even where it would broadcast.
pub(crate) fn same_shape(what: &str, x: &Tensor, out: &Tensor) -> Result<()> {
    if out.size() == x.size() {
        return Ok(());
    }
    let expected = format!("the shape of its input, {:?}", x.size());
    Err(Error::tensor(what, expected, format!("{:?}", out.size())))
}
