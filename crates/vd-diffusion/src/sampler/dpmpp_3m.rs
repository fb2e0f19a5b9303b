//! DPM-Solver++(3M) and its SDE version.

use serde::{Deserialize, Serialize};
use tch::Tensor;
use vd_tensor_ops::Noise;

use super::moves::{add_noise, hold_x0, x0_sum};
use super::polynomial::{mean, mean_weights};
use super::{Interval, LastSteps, LineRule, Past, Sampler, Step};
use crate::Result;
use crate::error::in_range;

/// DPM-Solver++ over the last three x0-hat: the flow at `eta` = 0, its SDE at 1.
///
/// [`DpmPp3m::new`] integrates the whole parabola. The published form, [`DpmPp3m::diffusers`] and
/// [`DpmPp3m::k_diffusion`], keeps half of its second difference, and is of second order.
///
/// # Range
/// `eta` in [0, 1].
///
/// # Reference
/// Lu et al. 2022, sections 4.2 and 5, one order up, arXiv:2211.01095; published as
/// `sample_dpmpp_3m_sde` of k-diffusion. Order 3 at eta = 0 (published form: 2), weak order 2 at
/// eta = 1; one evaluation per step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DpmPp3m {
    /// Amount of fresh noise: from none (0) to that of the reverse SDE (1).
    pub eta: f64,
    /// Factor of the parabola's second difference: 1 is exact, 0.5 as published.
    pub second_difference: f64,
    /// How the line is averaged where only two x0-hat are used.
    pub line: LineRule,
    /// Order of the last steps.
    pub last: LastSteps,
}

/// The forms of [`DpmPp3m`] that have a name in configs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ThirdOrder {
    /// That of [`DpmPp3m::new`].
    #[default]
    Whole,
    /// That of [`DpmPp3m::diffusers`].
    Diffusers,
    /// That of [`DpmPp3m::k_diffusion`].
    KDiffusion,
}

impl ThirdOrder {
    pub(super) fn sampler(self, eta: f64) -> DpmPp3m {
        match self {
            ThirdOrder::Whole => DpmPp3m::new(eta),
            ThirdOrder::Diffusers => DpmPp3m::diffusers(eta),
            ThirdOrder::KDiffusion => DpmPp3m::k_diffusion(eta),
        }
    }
}

impl DpmPp3m {
    /// The exact integral of the parabola.
    pub fn new(eta: f64) -> Self {
        DpmPp3m { eta, second_difference: 1.0, line: LineRule::Whole, last: LastSteps::Fall }
    }

    /// The form of diffusers' `DPMSolverMultistepScheduler` with `solver_order=3`, except for an
    /// error in its SDE version, which is not reproduced: diffusers 0.42 subtracts alpha times the
    /// second difference too much.
    pub fn diffusers(eta: f64) -> Self {
        DpmPp3m {
            eta,
            second_difference: 0.5,
            line: LineRule::Midpoint,
            last: LastSteps::FallInShortRuns,
        }
    }

    /// The form of k-diffusion's `sample_dpmpp_3m_sde`.
    pub fn k_diffusion(eta: f64) -> Self {
        DpmPp3m { eta, second_difference: 0.5, line: LineRule::Whole, last: LastSteps::Keep }
    }

    pub(super) fn validate(self) -> Result<()> {
        in_range("sampler dpmpp-3m-sde: eta", self.eta, 0.0, 1.0)?;
        in_range("sampler dpmpp-3m-sde: second_difference", self.second_difference, 0.0, 1.0)
    }

    /// Weights of the three x0-hat, newest first.
    fn weights(&self, points: &[Past], over: &Interval<'_>) -> Vec<f64> {
        // In units of the interval, from its start; the SDE's density over time is exp of this.
        let (start, h) = (over.from.half_log_snr(), over.half_log_snr_gained());
        let density = |u: f64| ((1.0 + self.eta) * h * u).exp();
        let u: Vec<_> = points.iter().map(|p| (p.at.half_log_snr() - start) / h).collect();
        let mut weights = mean_weights(&u, (0.0, 1.0), density);
        let dropped = (1.0 - self.second_difference) * mean((0.0, 1.0), density, |u| u * u);
        for (j, weight) in weights.iter_mut().enumerate() {
            let others = u.iter().enumerate().filter(|(k, _)| *k != j);
            *weight -= dropped / others.map(|(_, other)| u[j] - other).product::<f64>();
        }
        weights
    }
}

impl Sampler for DpmPp3m {
    fn step(&self, x: &Tensor, over: &Interval<'_>, noise: &mut dyn Noise) -> Result<Step> {
        self.validate()?;
        let (from, to) = (over.from, over.to);
        let x0 = over.denoise(x, from)?;
        let recent = over.recent(x, &x0, self.last.order(3, over));
        let held = match &recent[..] {
            [_] => x0.shallow_clone(),
            [_, before] => self.line.mean(&x0, before, over, 1.0 + self.eta),
            points => x0_sum(points, &self.weights(points, over)),
        };
        let variance = over.sde_variance(self.eta);
        let mean = hold_x0(x, &held, from, to.without(variance));
        Ok(Step::new(add_noise(mean, variance, over, noise), x0))
    }
}
