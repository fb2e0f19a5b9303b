//! Which frames of a clip share a time.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Noise;

use crate::named::name_or_table;
use crate::{Error, Result, Schedule, TimeSampling};

/// Which frames of a clip share a time in training.
///
/// All variants except [`Shared`](FrameTimes::Shared) need clips (b c f ...) and a network that
/// takes one time per frame; each image after a clip then has its own time, whatever the clip's
/// frames share. Under `Shared`, images share the time of the clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FrameTimes {
    /// All: one time per clip.
    #[default]
    Shared,
    /// None: each frame has its own (Chen et al. 2024, arXiv:2407.01392).
    Independent,
    /// All except the first frames, which are clean: shown to the network as they are and not
    /// counted in the loss.
    Context {
        /// Number of clean frames at the beginning.
        #[serde(default = "default_frames")]
        frames: usize,
    },
}

name_or_table!(
    FrameTimes,
    "rule for times of frames",
    [Shared => "shared", Independent => "independent"],
    [Context => "context"],
);

fn default_frames() -> usize {
    1
}

impl FrameTimes {
    /// Samples the times of a batch.
    ///
    /// # Shapes
    /// Result: b, or b f unless they are shared; f64 on the CPU
    ///
    /// # Errors
    /// An `x0` without frames where they matter, or with no frame that is not clean.
    pub(crate) fn draw(
        self,
        times: TimeSampling,
        schedule: &dyn Schedule,
        x0: &Tensor,
        noise: &mut dyn Noise,
    ) -> Result<Tensor> {
        let (b, f) = match (self, x0.size().as_slice()) {
            (FrameTimes::Shared, [b, ..]) => return times.draw(schedule, *b, noise),
            (_, [b, _, f, ..]) => (*b, *f),
            (_, size) => {
                let expected = "shape b c f .. (frame_times is not `shared`)";
                return Err(Error::tensor("x0", expected, format!("{size:?}")));
            }
        };
        let FrameTimes::Context { frames } = self else {
            return times.draw_like(schedule, &Tensor::empty([b, f], DOUBLE), noise);
        };
        let clean = frames as i64;
        if !(0..f).contains(&clean) {
            let expected = format!("less than the number of frames, {f}");
            return Err(Error::value("frame_times context: frames", expected, frames));
        }
        let shared = times.draw(schedule, b, noise)?.f_unsqueeze(1)?;
        let parts = [Tensor::zeros([b, clean], DOUBLE), shared.f_repeat([1, f - clean])?];
        Ok(Tensor::f_cat(&parts, 1)?)
    }
}

impl FrameTimes {
    /// The times of a batch, unless given, and its noise. `clip` is the number of frames that
    /// belong to the clip, where independent images follow it: random values of the images are
    /// drawn after all those of the clip, so the clip's values are the same with and without
    /// images.
    ///
    /// # Errors
    /// As [`FrameTimes::draw`].
    pub(crate) fn draw_with_noise(
        self,
        (times, given): (TimeSampling, Option<Tensor>),
        schedule: &dyn Schedule,
        (x0, clip): (&Tensor, Option<i64>),
        noise: &mut dyn Noise,
    ) -> Result<(Tensor, Tensor)> {
        let each = self != FrameTimes::Shared && given.is_none();
        let times_of = |x: &Tensor, noise: &mut dyn Noise| match &given {
            Some(t) => Ok(t.shallow_clone()),
            None => self.draw(times, schedule, x, noise),
        };
        let (Some(clip), &[b, _, f, ..]) = (clip, x0.size().as_slice()) else {
            let t = times_of(x0, noise)?;
            return Ok((t, noise.normal(x0)));
        };
        let (first, images) = (x0.f_narrow(2, 0, clip)?, x0.f_narrow(2, clip, f - clip)?);
        let t = times_of(&first, noise)?;
        let eps = noise.normal(&first);
        let t = match each {
            true => {
                let own = Tensor::empty([b, f - clip], DOUBLE);
                Tensor::f_cat(&[t, times.draw_like(schedule, &own, noise)?], 1)?
            }
            false => t,
        };
        Ok((t, Tensor::f_cat(&[eps, noise.normal(&images)], 2)?))
    }
}

const DOUBLE: (Kind, Device) = (Kind::Double, Device::Cpu);
