//! A schedule tied to what a network predicts: training and sampling.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};
use vd_tensor_ops::{FrameMask, Noise};
use vd_unet3d::{Backbone, Cond};

use crate::denoiser::answer;
use crate::loss::{Means, counting, reduce, weighted_by};
use crate::schedule::check_schedule;
use crate::{
    Error, FrameTimes, GuidanceConfig, Guided, Levels, Loss, LossKind, LossRequest, ModelDenoiser,
    Parameterization, Result, Schedule, ScheduleConfig, Signal, TimeSampling, Weighting,
};

/// The settings of the diffusion process that belong to a trained network.
///
/// The defaults are those of `video-diffusion-pytorch`, except for the loss: L2, as in the paper,
/// instead of L1.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiffusionConfig {
    /// Noise as a function of time.
    pub schedule: ScheduleConfig,
    /// What the network predicts.
    pub parameterization: Parameterization,
    /// What training minimises.
    pub loss: LossKind,
    /// How the times of a training batch are sampled.
    pub times: TimeSampling,
    /// Which frames of a clip share a time.
    pub frame_times: FrameTimes,
    /// How much an error counts at each noise level.
    pub weighting: Weighting,
}

/// A schedule, what a network predicts under it, and what training minimises.
#[derive(Debug)]
pub struct Diffusion {
    schedule: Box<dyn Schedule>,
    parameterization: Parameterization,
    loss: LossKind,
    times: TimeSampling,
    frame_times: FrameTimes,
    weighting: Weighting,
}

impl Diffusion {
    /// The process described by a config.
    ///
    /// # Errors
    /// Settings out of range; epsilon under a schedule that ends without signal.
    pub fn new(config: &DiffusionConfig) -> Result<Self> {
        let schedule = config.schedule.build()?;
        Ok(Self::with_schedule(schedule, config.parameterization, config.loss, config.times)?
            .with_weighting(config.weighting)?
            .with_frame_times(config.frame_times))
    }

    /// The process of your own schedule, with uniform weights and one time per sample.
    ///
    /// # Errors
    /// As [`Diffusion::new`]; a schedule whose levels are not numbers or do not get noisier with t,
    /// as far as a few times show.
    pub fn with_schedule(
        schedule: Box<dyn Schedule>,
        parameterization: Parameterization,
        loss: LossKind,
        times: TimeSampling,
    ) -> Result<Self> {
        parameterization.validate()?;
        loss.validate()?;
        times.validate()?;
        check_schedule(&*schedule)?;
        let last = schedule.at(1.0);
        if parameterization == Parameterization::Epsilon {
            crate::parameterization::needs_signal(last)?;
        }
        let (frame_times, weighting) = (FrameTimes::Shared, Weighting::Uniform);
        Ok(Diffusion { schedule, parameterization, loss, times, frame_times, weighting })
    }

    /// The same process with another loss weighting.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn with_weighting(self, weighting: Weighting) -> Result<Self> {
        weighting.validate()?;
        Ok(Diffusion { weighting, ..self })
    }

    /// The same process with another choice of times within a clip.
    pub fn with_frame_times(self, frame_times: FrameTimes) -> Self {
        Diffusion { frame_times, ..self }
    }

    /// Noise as a function of time.
    pub fn schedule(&self) -> &dyn Schedule {
        self.schedule.as_ref()
    }

    /// What the network predicts.
    pub fn parameterization(&self) -> Parameterization {
        self.parameterization
    }

    /// The loss of a batch: adds noise to `x0`, evaluates the network, compares.
    ///
    /// Row k of all random values (first the time, then the noise) comes from the k-th stream of
    /// `noise`; those of images after a clip ([`FrameMask::ClipAndImages`]) come last. Pixels of
    /// images count in the mean like those of any frame.
    ///
    /// # Shapes
    /// `x0`: b ... (b c f h w for networks on videos), in [-1, 1]
    ///
    /// # Errors
    /// An `x0` that is not f32 or f64, or is empty; times or a mask that do not fit it; a mask (or
    /// clean frames) under which nothing counts; any error of the network.
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
        if b == 0 || x0.numel() == 0 {
            let got = format!("{:?}", x0.size());
            return Err(Error::tensor("x0", "shape b ..., with at least one number", got));
        }
        let frames = request.frames.unwrap_or(&FrameMask::All);
        check_frames(frames, x0)?;
        let clip = x0.size().get(2).and_then(|f| frames.clip_before_images(*f));
        let given = match request.t {
            Some(t) => Some(t.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Double)?),
            None => None,
        };
        let times = (self.times, given);
        let (t, eps) =
            self.frame_times.draw_with_noise(times, self.schedule(), (x0, clip), noise)?;
        let levels = Levels::at_times(self.schedule(), &t)?;
        let x = levels.noised(x0, &eps)?;
        let input = levels.time_input(self.schedule(), b, x0);
        let shown = self.parameterization.shown(&x, &levels)?;
        let out = answer(&x, backbone.forward(&shown, &input, cond, frames, request.train)?)?;
        let target = self.parameterization.target(x0, &eps, &levels)?;
        let losses = self.weighted(self.loss.elementwise(&out, &target)?, &levels)?;
        let losses = match request.weight {
            Some(weight) => weighted_by(losses, &levels, weight)?,
            None => losses,
        };
        let counting = counting(&losses, request.keep, &levels)?;
        let means = reduce(&losses, counting.as_ref(), &levels)?;
        let losses = match request.uncertainty {
            Some(uncertainty) => uncertainty.apply(&losses, &levels)?,
            None => losses,
        };
        let mean = means.overall(&losses);
        let Means { per_sample, per_level, counts, .. } = means;
        Ok(Loss { mean, per_sample, per_level, counts, log_snr: levels.log_snr(), t })
    }

    /// Multiplies every distance by the weight of its level.
    fn weighted(&self, losses: Tensor, levels: &Levels) -> Result<Tensor> {
        if self.weighting == Weighting::Uniform {
            return Ok(losses);
        }
        levels.scaled(&losses, |at| {
            // Clean frames do not count, and most weights are infinite there.
            if at.sigma == 0.0 {
                return 0.0;
            }
            self.weighting.of_output(self.parameterization, at)
        })
    }

    /// A network under fixed conditioning, as samplers see it.
    pub fn denoiser<'a>(
        &'a self,
        backbone: &'a dyn Backbone,
        cond: Cond,
        frames: FrameMask,
    ) -> ModelDenoiser<'a> {
        ModelDenoiser::new(self, backbone, cond, frames)
    }

    /// A network with classifier-free guidance towards its conditioning; scale 1 is off.
    ///
    /// # Errors
    /// At any scale other than 1, a network without conditioning or no conditioning given; a scale
    /// that is not finite.
    pub fn guided<'a>(
        &'a self,
        backbone: &'a dyn Backbone,
        cond: Cond,
        frames: FrameMask,
        scale: f64,
    ) -> Result<Guided<'a>> {
        self.guided_by(backbone, vec![Signal { cond, scale }], frames, &GuidanceConfig::default())
    }

    /// A network guided towards its conditioning by a rule of your choice.
    ///
    /// # Errors
    /// As [`Diffusion::guided`]; no signals, or several under a rule for one; settings out of
    /// range.
    pub fn guided_by<'a>(
        &'a self,
        backbone: &'a dyn Backbone,
        signals: Vec<Signal>,
        frames: FrameMask,
        rule: &GuidanceConfig,
    ) -> Result<Guided<'a>> {
        Guided::new(self, backbone, signals, None, frames, *rule)
    }

    /// As [`Diffusion::guided_by`], but away from conditioning of your choice, such as that of a
    /// negative prompt, instead of the network's own null embeddings.
    ///
    /// `null` has the same parts as the signals; each may be marked as left out
    /// ([`Cond::keeping`]). A network that is never shown a null embedding needs no trained one.
    ///
    /// # Errors
    /// As [`Diffusion::guided_by`]; a part that only one of `null` and the signals has.
    pub fn guided_against<'a>(
        &'a self,
        backbone: &'a dyn Backbone,
        signals: Vec<Signal>,
        null: Cond,
        frames: FrameMask,
        rule: &GuidanceConfig,
    ) -> Result<Guided<'a>> {
        Guided::new(self, backbone, signals, Some(null), frames, *rule)
    }
}

/// Refuses a frame mask that does not fit the tensor.
pub(crate) fn check_frames(frames: &FrameMask, x: &Tensor) -> Result<()> {
    match (frames, &x.size()[..]) {
        (FrameMask::All, _) => Ok(()),
        (_, [b, _, f, ..]) => Ok(frames.validate(*b, *f)?),
        (_, size) => {
            Err(Error::tensor("x", "shape b c f ..., to have a frame mask", format!("{size:?}")))
        }
    }
}

/// Refuses kinds in which the formulas would lose precision.
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
