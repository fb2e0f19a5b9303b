//! Heun's method, with EDM's churn.

use std::f64::consts::SQRT_2;

use serde::{Deserialize, Serialize};
use tch::Tensor;
use vd_tensor_ops::Noise;

use super::moves::{hold_x0, raise_by};
use super::{Interval, Sampler, Step};
use crate::error::in_range;
use crate::{NoiseLevel, Result};

/// Coordinates in which constant x0 and eps give a straight line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// x / alpha as a function of sigma / alpha, as in EDM and k-diffusion. Infinite at alpha = 0,
    /// where a step falls to first order.
    Edm,
    /// x / (alpha + sigma) as a function of sigma / (alpha + sigma), as in flow matching. Finite
    /// everywhere, and three to six times more accurate on the densities of the tests.
    #[default]
    Flow,
}

/// Heun's second-order step: the trapezoidal rule on the derivatives at both ends, after adding a
/// little noise ("churn").
///
/// # Range
/// `churn` (EDM's S_churn) is not negative; 0 is deterministic. It is spread over the steps; each
/// raises sigma / alpha by a factor of at most sqrt(2). `churn_min` and `churn_max` (S_tmin,
/// S_tmax) bound the sigma / alpha that is churned; `churn_noise` (S_noise) scales the added noise.
///
/// # Reference
/// Karras et al. 2022, algorithms 1 and 2, arXiv:2206.00364. Order 2; two evaluations per step, one
/// on the last step to sigma = 0. With churn the weak order is also 2.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heun {
    /// Amount of noise added and removed again, over all steps.
    pub churn: f64,
    /// The least sigma / alpha that is churned.
    pub churn_min: f64,
    /// The largest sigma / alpha that is churned.
    pub churn_max: f64,
    /// Standard deviation of the added noise.
    pub churn_noise: f64,
    /// The line along which derivatives are taken.
    pub line: Line,
}

impl Default for Heun {
    fn default() -> Self {
        Heun {
            churn: 0.0,
            churn_min: 0.0,
            churn_max: f64::INFINITY,
            churn_noise: 1.0,
            line: Line::Flow,
        }
    }
}

impl Heun {
    pub(super) fn validate(self) -> Result<()> {
        in_range("sampler heun: churn", self.churn, 0.0, f64::MAX)?;
        in_range("sampler heun: churn_min", self.churn_min, 0.0, f64::MAX)?;
        in_range("sampler heun: churn_max", self.churn_max, self.churn_min, f64::INFINITY)?;
        in_range("sampler heun: churn_noise", self.churn_noise, 0.0, f64::MAX)
    }

    /// The level to which the noise is raised before the step.
    fn churned(&self, over: &Interval<'_>) -> NoiseLevel {
        let gamma = (self.churn / over.of as f64).min(SQRT_2 - 1.0);
        let ratio = over.from.sigma / over.from.alpha;
        if gamma == 0.0
            || over.from.alpha == 0.0
            || ratio < self.churn_min
            || ratio > self.churn_max
        {
            return over.from;
        }
        let raised = over.schedule.at_log_snr(over.from.log_snr() - 2.0 * gamma.ln_1p());
        // Never above the first level of the schedule.
        if raised.log_snr() < over.from.log_snr() { raised } else { over.from }
    }
}

impl Sampler for Heun {
    fn step(&self, x: &Tensor, over: &Interval<'_>, noise: &mut dyn Noise) -> Result<Step> {
        self.validate()?;
        let (from, to) = (self.churned(over), over.to);
        let churned = (from != over.from).then(|| {
            let variance = from.variance_given(over.from) * self.churn_noise.powi(2);
            raise_by(x, over.from, from, variance, noise)
        });
        let x = churned.as_ref().unwrap_or(x);
        let x0 = over.denoise(x, from)?;
        let mut end = hold_x0(x, &x0, from, to);
        let scale = |at: NoiseLevel| match self.line {
            Line::Edm => at.alpha,
            Line::Flow => at.alpha + at.sigma,
        };
        if to.sigma > 0.0 && scale(from) > 0.0 {
            let slope = |x: &Tensor, x0: &Tensor, at: NoiseLevel| match self.line {
                Line::Edm => at.eps(x, x0),
                Line::Flow => at.eps(x, x0) - x0,
            };
            let turn = slope(&end, &over.denoise(&end, to)?, to) - slope(x, &x0, from);
            end += turn * (0.5 * (to.sigma - from.sigma / scale(from) * scale(to)));
        }
        Ok(Step { x: end, x0, start: churned.map(|x| (from, x)) })
    }
}
