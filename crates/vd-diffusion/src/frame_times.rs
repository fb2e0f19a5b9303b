//! Which frames of a clip share a time.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Noise;

use crate::named::name_or_table;
use crate::{Error, Result, Schedule, TimeSampling};

/// Which frames of a clip share a time in training.
///
/// All but [`Shared`](FrameTimes::Shared) need clips (b c f ...) and a network that takes a time
/// per frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FrameTimes {
    /// All of them: one time per clip.
    #[default]
    Shared,
    /// None: each frame has its own (Chen et al. 2024, arXiv:2407.01392).
    Independent,
    /// All but the first ones, which are clean: shown to the network as they are and not counted
    /// in the loss.
    Context {
        /// How many frames at the beginning are clean.
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
    /// Draws the times of a batch.
    ///
    /// # Shapes
    /// Result: b, or b f unless they are shared; f64 on the CPU
    ///
    /// # Errors
    /// An `x0` without frames where they matter, or with no more of them than are clean.
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

const DOUBLE: (Kind, Device) = (Kind::Double, Device::Cpu);
