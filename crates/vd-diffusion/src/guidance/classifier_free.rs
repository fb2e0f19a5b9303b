//! Classifier-free guidance.

use tch::Tensor;
use vd_tensor_ops::FrameMask;
use vd_unet3d::{Backbone, Cond};

use crate::denoiser::ask;
use crate::{Denoiser, Diffusion, Error, Levels, NoiseLevel, Result};

/// A network guided away from what it says without conditioning.
///
/// Both answers come from one batch of 2 b. The network must have been trained with its
/// conditioning dropped now and then, or its null embedding means nothing.
///
/// # Range
/// `scale` is 1 + w of Ho & Salimans: null + scale (conditional - null). 1 is off, and then the
/// network is asked once; 0 is the unconditional model.
///
/// # Reference
/// Ho & Salimans 2022, equation 6, arXiv:2207.12598.
#[derive(Debug)]
pub struct Guided<'a> {
    diffusion: &'a Diffusion,
    backbone: &'a dyn Backbone,
    scale: f64,
    /// Of one batch at scale 1, else of the given and the null one.
    cond: Cond,
    frames: FrameMask,
}

impl<'a> Guided<'a> {
    pub(crate) fn new(
        diffusion: &'a Diffusion,
        backbone: &'a dyn Backbone,
        cond: Cond,
        frames: FrameMask,
        scale: f64,
    ) -> Result<Self> {
        if !scale.is_finite() {
            return Err(Error::value("guidance scale", "a finite number, 1 for none", scale));
        }
        if scale == 1.0 {
            return Ok(Guided { diffusion, backbone, scale, cond, frames });
        }
        if !backbone.is_conditional() {
            let why =
                "the network takes no conditioning; use scale 1, or a network trained with it";
            return Err(Error::Guidance { scale, why: why.to_owned() });
        }
        if cond.pooled.is_none() {
            let why = "no conditioning was given to guide towards; give one, or use scale 1";
            return Err(Error::Guidance { scale, why: why.to_owned() });
        }
        let cond = Cond::cat(&[&cond, &cond.nulled()])?;
        Ok(Guided { diffusion, backbone, scale, cond, frames: frames.repeat(2) })
    }
}

impl Denoiser for Guided<'_> {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        let at = Levels::from(at);
        let ask = |x: &Tensor| ask(self.diffusion, self.backbone, x, &at, &self.cond, &self.frames);
        let out = if self.scale == 1.0 {
            ask(x)?
        } else {
            let both = ask(&Tensor::f_cat(&[x, x], 0)?)?;
            let b = x.size()[0];
            let (given, null) = (both.narrow(0, 0, b), both.narrow(0, b, b));
            &null + (given - &null) * self.scale
        };
        self.diffusion.parameterization().to_x0(x, &out, &at)
    }
}
