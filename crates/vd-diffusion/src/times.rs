//! The times at which a batch is trained.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Noise;

use crate::{Result, Schedule};

/// How the times of a training batch are drawn.
///
/// Either way every sample's own time is uniform: on (0, 1], or on the entries of a discrete
/// schedule (as `torch.randint(0, N)` draws them).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeSampling {
    /// Each sample by itself, from its own stream.
    #[default]
    Uniform,
    /// Spread evenly over the batch: sample k of b is at u + k / b (mod 1), with one u, drawn from
    /// the first sample's stream. The loss of a batch varies less; a sample's time depends on its
    /// batch.
    ///
    /// # Reference
    /// Kingma et al. 2021, appendix I.1, arXiv:2107.00630.
    Stratified,
}

impl TimeSampling {
    /// Draws the times of `b` samples.
    ///
    /// # Shapes
    /// Result: b, f64 on the CPU
    ///
    /// # Errors
    /// A noise source whose answer is not `b` numbers.
    pub fn draw(self, schedule: &dyn Schedule, b: i64, noise: &mut dyn Noise) -> Result<Tensor> {
        let drawn = noise.uniform(&Tensor::empty([b], (Kind::Double, Device::Cpu)));
        let u = Vec::<f64>::try_from(&drawn)?;
        let offset = u.first().copied().unwrap_or(0.0);
        let times = u.iter().enumerate().map(|(k, own)| {
            let u = match self {
                TimeSampling::Uniform => *own,
                TimeSampling::Stratified => (offset + k as f64 / b as f64).fract(),
            };
            // (0, 1]: t = 0 is clean, and there is nothing to learn from it.
            let t = 1.0 - u;
            schedule.steps().map_or(t, |n| (t * n as f64).ceil() / n as f64)
        });
        Ok(Tensor::from_slice(&times.collect::<Vec<_>>()))
    }
}
