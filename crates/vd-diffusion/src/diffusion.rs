//! A schedule tied to what a network predicts: training and sampling.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};
use vd_tensor_ops::{FrameMask, Noise};
use vd_unet3d::{Backbone, Cond};

use crate::denoiser::answer;
use crate::loss::reduce;
use crate::{
    Error, GuidanceConfig, Guided, Levels, Loss, LossKind, ModelDenoiser, Parameterization, Result,
    Schedule, ScheduleConfig, Signal, TimeSampling,
};

/// Everything about the diffusion process that belongs to a trained network.
///
/// The defaults are those of `video-diffusion-pytorch`, but for the loss: L2, as in the paper,
/// where that has L1.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiffusionConfig {
    /// Noise as a function of time.
    pub schedule: ScheduleConfig,
    /// What the network predicts.
    pub parameterization: Parameterization,
    /// What training minimises.
    pub loss: LossKind,
    /// How the times of a training batch are drawn.
    pub times: TimeSampling,
}

/// What else there is to say about one evaluation of the loss.
#[derive(Default)]
pub struct LossRequest<'a> {
    /// Which frames see which in time; `None` is all of them.
    pub frames: Option<&'a FrameMask>,
    /// 1 (or true) where a number counts, 0 where it does not; `None` counts everything. On the
    /// CPU it costs no wait for the device.
    ///
    /// # Shapes
    /// Whatever broadcasts to `x0`
    pub keep: Option<&'a Tensor>,
    /// Times to train at, instead of drawn ones.
    ///
    /// # Shapes
    /// b, or b f for one noise level per frame of an `x0` that is b c f ...
    pub t: Option<&'a Tensor>,
    /// The stream for the network's dropout masks; `None` means evaluation.
    pub train: Option<&'a mut dyn Noise>,
}

impl std::fmt::Debug for LossRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LossRequest")
            .field("frames", &self.frames)
            .field("keep", &self.keep)
            .field("t", &self.t)
            .field("train", &self.train.is_some())
            .finish()
    }
}

/// A schedule, what a network predicts under it, and what training minimises.
#[derive(Debug)]
pub struct Diffusion {
    schedule: Box<dyn Schedule>,
    parameterization: Parameterization,
    loss: LossKind,
    times: TimeSampling,
}

impl Diffusion {
    /// The process that a config describes.
    ///
    /// # Errors
    /// Settings out of their range; epsilon under a schedule that ends without signal.
    pub fn new(config: &DiffusionConfig) -> Result<Self> {
        let schedule = config.schedule.build()?;
        Self::with_schedule(schedule, config.parameterization, config.loss, config.times)
    }

    /// The process of a schedule of one's own.
    ///
    /// # Errors
    /// As [`Diffusion::new`].
    pub fn with_schedule(
        schedule: Box<dyn Schedule>,
        parameterization: Parameterization,
        loss: LossKind,
        times: TimeSampling,
    ) -> Result<Self> {
        loss.validate()?;
        let last = schedule.at(1.0);
        if parameterization == Parameterization::Epsilon {
            crate::parameterization::needs_signal(last)?;
        }
        Ok(Diffusion { schedule, parameterization, loss, times })
    }

    /// Noise as a function of time.
    pub fn schedule(&self) -> &dyn Schedule {
        self.schedule.as_ref()
    }

    /// What the network predicts.
    pub fn parameterization(&self) -> Parameterization {
        self.parameterization
    }

    /// The loss of a batch: noises `x0`, asks the network, compares.
    ///
    /// Row k of everything drawn (first the time, then the noise) comes from the k-th stream of
    /// `noise`.
    ///
    /// # Shapes
    /// `x0`: b ... (b c f h w for networks on videos), in [-1, 1]
    ///
    /// # Errors
    /// An `x0` that is not f32 or f64; times or a mask that do not fit it; a mask in which nothing
    /// counts; whatever the network refuses.
    pub fn loss(
        &self,
        backbone: &dyn Backbone,
        x0: &Tensor,
        cond: &Cond,
        request: LossRequest<'_>,
        noise: &mut dyn Noise,
    ) -> Result<Loss> {
        check_kind("x0", x0)?;
        let b = x0.size().first().copied().unwrap_or(0);
        if b == 0 {
            let got = format!("{:?}", x0.size());
            return Err(Error::tensor("x0", "shape b ..., with at least one sample", got));
        }
        let t = match request.t {
            Some(t) => t.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Double)?,
            None => self.times.draw(self.schedule(), b, noise)?,
        };
        let levels = Levels::at_times(self.schedule(), &t)?;
        let eps = noise.normal(x0);
        let x = levels.noised(x0, &eps)?;
        let input = levels.time_input(self.schedule(), b, x0);
        let frames = request.frames.unwrap_or(&FrameMask::All);
        let out = answer(&x, backbone.forward(&x, &input, cond, frames, request.train)?)?;
        let target = self.parameterization.target(x0, &eps, &levels)?;
        let (mean, per_sample) = reduce(&self.loss.elementwise(&out, &target)?, request.keep)?;
        Ok(Loss { mean, per_sample, t })
    }

    /// A network under fixed conditions, as samplers see it.
    pub fn denoiser<'a>(
        &'a self,
        backbone: &'a dyn Backbone,
        cond: Cond,
        frames: FrameMask,
    ) -> ModelDenoiser<'a> {
        ModelDenoiser::new(self, backbone, cond, frames)
    }

    /// A network under conditions that its samples are pulled towards; scale 1 is off.
    ///
    /// # Errors
    /// At any scale but 1, a network without conditioning or no conditioning given; a scale that
    /// is not finite.
    pub fn guided<'a>(
        &'a self,
        backbone: &'a dyn Backbone,
        cond: Cond,
        frames: FrameMask,
        scale: f64,
    ) -> Result<Guided<'a>> {
        self.guided_by(backbone, vec![Signal { cond, scale }], frames, &GuidanceConfig::default())
    }

    /// A network under conditions that its samples are pulled towards by a rule of choice.
    ///
    /// # Errors
    /// As [`Diffusion::guided`]; no signals, or several under a rule for one; settings out of their
    /// range.
    pub fn guided_by<'a>(
        &'a self,
        backbone: &'a dyn Backbone,
        signals: Vec<Signal>,
        frames: FrameMask,
        rule: &GuidanceConfig,
    ) -> Result<Guided<'a>> {
        Guided::new(self, backbone, signals, frames, *rule)
    }
}

/// Refuses tensors in which the formulas would lose their digits.
pub(crate) fn check_kind(what: &str, x: &Tensor) -> Result<()> {
    match x.kind() {
        Kind::Float | Kind::Double => Ok(()),
        kind => Err(Error::tensor(
            what,
            "f32 or f64 (u8 pixels: `video::from_u8` first)",
            format!("{kind:?}"),
        )),
    }
}
