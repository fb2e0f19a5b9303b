//! Consistency model sampling.

use serde::{Deserialize, Serialize};
use tch::Tensor;
use vd_tensor_ops::Noise;

use super::{Interval, Sampler, Step};
use crate::error::in_range;
use crate::{NoiseLevel, Result, Schedule};

/// The multistep consistency step: jumps to x0-hat, and adds fresh noise for the next level.
///
/// Meant for networks distilled for it, which need only 1 to 8 steps; with other networks it is a
/// sampler whose every step keeps only x0-hat. A step to sigma = 0 returns x0-hat and draws no
/// noise.
///
/// # Reference
/// Luo et al. 2023, algorithm 3, arXiv:2310.04378; Song et al. 2023, algorithm 1, arXiv:2303.01469.
/// One evaluation per step; no order for networks that were not distilled.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Lcm {
    /// Mixes x0-hat with the state, for networks that were distilled this way; `None`: x0-hat
    /// alone.
    pub boundary: Option<Boundary>,
}

/// The boundary condition of a consistency model: c_skip x + c_out x0-hat, which is x at time 0.
///
/// With s = `timestep_scaling` times the time in table steps (as if of 1000 for a continuous
/// schedule), c_skip = sigma_data^2 / (s^2 + sigma_data^2) and c_out = s / sqrt(s^2 +
/// sigma_data^2).
///
/// # Range
/// Both above 0.
///
/// # Reference
/// Song et al. 2023, section 3, arXiv:2303.01469; Luo et al. 2023, section 4.1, arXiv:2310.04378.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Boundary {
    /// How fast the weight of the state falls: 10 in the published networks.
    pub timestep_scaling: f64,
    /// Standard deviation of the data.
    pub sigma_data: f64,
}

impl Default for Boundary {
    fn default() -> Self {
        Boundary { timestep_scaling: 10.0, sigma_data: 0.5 }
    }
}

impl Boundary {
    /// c_skip and c_out.
    fn coefficients(self, at: NoiseLevel, schedule: &dyn Schedule) -> (f64, f64) {
        // Entry i of a table is step i, at t = (i + 1) / N.
        let step = schedule.steps().map_or(1000.0 * at.t, |n| n as f64 * at.t - 1.0);
        let (s, d) = (self.timestep_scaling * step.max(0.0), self.sigma_data);
        (d * d / (s * s + d * d), s / s.hypot(d))
    }
}

impl Lcm {
    pub(super) fn validate(self) -> Result<()> {
        let Some(boundary) = self.boundary else { return Ok(()) };
        let (low, high) = (f64::MIN_POSITIVE, f64::MAX);
        in_range("sampler lcm: timestep_scaling", boundary.timestep_scaling, low, high)?;
        in_range("sampler lcm: sigma_data", boundary.sigma_data, low, high)
    }
}

impl Sampler for Lcm {
    fn step(&self, x: &Tensor, over: &Interval<'_>, noise: &mut dyn Noise) -> Result<Step> {
        self.validate()?;
        let (from, to) = (over.from, over.to);
        let mut x0 = over.denoise(x, from)?;
        if let Some(boundary) = self.boundary {
            let (skip, out) = boundary.coefficients(from, over.schedule);
            x0 = x * skip + x0 * out;
        }
        let clean = &x0 * to.alpha;
        let x = if to.sigma == 0.0 { clean } else { clean + noise.normal(&x0) * to.sigma };
        Ok(Step::new(x, x0))
    }
}
