//! The times at which a batch is trained.

use std::f64::consts::{FRAC_PI_2, PI};

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Noise;

use crate::named::name_or_table;
use crate::parameterization::above_zero;
use crate::{Error, Result, Schedule, error::in_range};

/// How the times of a training batch are sampled.
///
/// Times lie in (0, 1]. Those of a discrete schedule are rounded up to its entries, so uniform
/// times are uniform over the entries (like `torch.randint(0, N)`). Samples at t = 0, or below
/// 2^-53, are moved to 2^-53: t = 0 would mark a frame as clean context, and 2^-53 is the least t
/// for which 1 - t differs from 1. The level there is the schedule's clean end, up to rounding, if
/// that end has noise.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum TimeSampling {
    /// Uniform, each sample independently from its own stream.
    #[default]
    Uniform,
    /// Spread evenly over the batch: sample k of b is at u + k / b (mod 1), with a single u from
    /// the first sample's stream. Each sample's time on its own is uniform. The loss of a batch has
    /// a lower variance, but a sample's time depends on its batch.
    ///
    /// # Reference
    /// Kingma et al. 2021, appendix I.1, arXiv:2107.00630.
    Stratified,
    /// ln(sigma / alpha) is normal. Values beyond the ends of the schedule are moved to the ends,
    /// and count as noisy at both.
    ///
    /// # Reference
    /// Karras et al. 2022, table 1, arXiv:2206.00364.
    LogNormal {
        /// Mean of ln(sigma / alpha).
        #[serde(default = "default_log_mean")]
        mean: f64,
        /// Standard deviation of ln(sigma / alpha).
        #[serde(default = "default_log_std")]
        std: f64,
    },
    /// ln(t / (1 - t)) is normal: few times near the ends.
    ///
    /// # Reference
    /// Esser et al. 2024, section 3.1, equation 19, arXiv:2403.03206.
    LogitNormal {
        /// Mean of ln(t / (1 - t)): above 0 for more noise.
        #[serde(default)]
        mean: f64,
        /// Standard deviation of ln(t / (1 - t)).
        #[serde(default = "default_logit_std")]
        std: f64,
    },
    /// t = 1 - u - scale (cos^2(pi u / 2) - 1 + u) for a uniform u: the larger `scale`, the more
    /// weight in the middle, but always some at both ends.
    ///
    /// # Range
    /// `scale` from -1 (more weight at the ends) through 0 (uniform) to 2 / (pi - 2).
    ///
    /// # Reference
    /// Esser et al. 2024, section 3.1, equation 20, arXiv:2403.03206.
    Mode {
        /// Extra weight of the middle.
        #[serde(default = "default_scale")]
        scale: f64,
    },
}

name_or_table!(
    TimeSampling,
    "law of times",
    [Uniform => "uniform", Stratified => "stratified"],
    [LogNormal => "log-normal", LogitNormal => "logit-normal", Mode => "mode"],
);

fn default_log_mean() -> f64 {
    -1.2
}

fn default_log_std() -> f64 {
    1.2
}

fn default_logit_std() -> f64 {
    1.0
}

fn default_scale() -> f64 {
    1.29
}

/// The least sampled time, 2^-53.
const LEAST: f64 = 0.5 * f64::EPSILON;

impl TimeSampling {
    /// Refuses settings out of range.
    pub(crate) fn validate(self) -> Result<()> {
        let finite = |what: &str, value: f64| {
            if value.is_finite() {
                Ok(())
            } else {
                Err(Error::value(what, "a finite number", value))
            }
        };
        match self {
            TimeSampling::Uniform | TimeSampling::Stratified => Ok(()),
            TimeSampling::LogNormal { mean, std } => {
                finite("times log-normal: mean", mean)?;
                above_zero("times log-normal: std", std)
            }
            TimeSampling::LogitNormal { mean, std } => {
                finite("times logit-normal: mean", mean)?;
                above_zero("times logit-normal: std", std)
            }
            // Outside this range t would no longer fall with u.
            TimeSampling::Mode { scale } => {
                in_range("times mode: scale", scale, -1.0, 2.0 / (PI - 2.0))
            }
        }
    }

    /// Samples the times of `b` samples.
    ///
    /// # Shapes
    /// Result: b, f64 on the CPU
    ///
    /// # Errors
    /// A noise source that does not return `b` numbers.
    pub fn draw(self, schedule: &dyn Schedule, b: i64, noise: &mut dyn Noise) -> Result<Tensor> {
        let like = Tensor::empty([b], (Kind::Double, Device::Cpu));
        self.draw_like(schedule, &like, noise)
    }

    /// Samples as many times as `like` (b, or b f) has values, each row from its own stream.
    /// Stratified times are spread over the rows, separately in each column.
    pub(crate) fn draw_like(
        self,
        schedule: &dyn Schedule,
        like: &Tensor,
        noise: &mut dyn Noise,
    ) -> Result<Tensor> {
        let drawn = match self {
            TimeSampling::LogNormal { .. } | TimeSampling::LogitNormal { .. } => noise.normal(like),
            _ => noise.uniform(like),
        };
        let drawn = Vec::<f64>::try_from(&drawn.f_reshape([-1])?)?;
        let b = like.size().first().copied().unwrap_or(1).max(1) as usize;
        let columns = (drawn.len() / b).max(1);
        let times = drawn.iter().enumerate().map(|(k, &own)| {
            let t = match self {
                // (0, 1]: t = 0 is clean, with nothing to learn.
                TimeSampling::Uniform => 1.0 - own,
                TimeSampling::Stratified => {
                    1.0 - (drawn[k % columns] + (k / columns) as f64 / b as f64).fract()
                }
                TimeSampling::LogNormal { mean, std } => schedule.t_at(-2.0 * (mean + std * own)),
                TimeSampling::LogitNormal { mean, std } => 1.0 / (1.0 + (-mean - std * own).exp()),
                TimeSampling::Mode { scale } => {
                    1.0 - own - scale * ((FRAC_PI_2 * own).cos().powi(2) - 1.0 + own)
                }
            };
            // NaN stays NaN, and is refused later.
            let t = t.clamp(LEAST, 1.0);
            schedule.steps().map_or(t, |n| (t * n as f64).ceil() / n as f64)
        });
        let times = Tensor::from_slice(&times.collect::<Vec<_>>());
        Ok(times.f_view(like.size().as_slice())?)
    }
}
