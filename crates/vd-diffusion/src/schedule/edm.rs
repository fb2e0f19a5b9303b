//! Variance-exploding noise: the data keep their scale.

use super::Schedule;
use crate::error::in_range;
use crate::{Error, NoiseLevel, Result};

/// Variance-exploding: alpha is 1, and sigma^(1 / 7) is linear in t from `sigma_min` at t = 1 /
/// 1000 to `sigma_max` at t = 1. Below t = 1 / 1000, sigma is proportional to t, so that t = 0 is
/// clean.
///
/// The time input is 250 ln(sigma): 1000 times the paper's ln(sigma) / 4, since networks here embed
/// step numbers from 0 to 1000. Below `sigma_min` it is that of `sigma_min`.
///
/// # Reference
/// Karras et al. 2022, equation 5 (rho = 7) and table 1, arXiv:2206.00364.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Edm {
    sigma_min: f64,
    /// `sigma_min` and `sigma_max` to the power 1 / 7.
    roots: (f64, f64),
}

impl Edm {
    const RHO: i32 = 7;
    /// The time of `sigma_min`.
    const FIRST: f64 = 1e-3;

    /// The schedule between two sigmas; 0.002 and 80 in the paper.
    ///
    /// # Range
    /// 1e-6 <= `sigma_min` < `sigma_max` <= 1e6.
    ///
    /// # Errors
    /// Sigmas outside that range.
    pub fn new(sigma_min: f64, sigma_max: f64) -> Result<Self> {
        in_range("schedule edm: sigma_min", sigma_min, 1e-6, 1e6)?;
        in_range("schedule edm: sigma_max", sigma_max, 1e-6, 1e6)?;
        if sigma_min >= sigma_max {
            let expected = format!("more than sigma_min = {sigma_min}");
            return Err(Error::value("schedule edm: sigma_max", expected, sigma_max));
        }
        Ok(Edm { sigma_min, roots: (root(sigma_min), root(sigma_max)) })
    }

    /// sigma at a time from 0 to 1.
    fn sigma(&self, t: f64) -> f64 {
        if t < Self::FIRST {
            return self.sigma_min * t / Self::FIRST;
        }
        let (low, high) = self.roots;
        // Both ends are exact, up to the rounding of the power.
        let up = (t - Self::FIRST) / (1.0 - Self::FIRST);
        (low * (1.0 - up) + high * up).powi(Self::RHO)
    }
}

fn root(sigma: f64) -> f64 {
    sigma.powf(1.0 / f64::from(Edm::RHO))
}

impl Schedule for Edm {
    fn at(&self, t: f64) -> NoiseLevel {
        let t = t.clamp(0.0, 1.0);
        NoiseLevel { t, alpha: 1.0, sigma: self.sigma(t) }
    }

    fn time_input(&self, t: f64) -> f64 {
        250.0 * self.at(t).sigma.max(self.sigma_min).ln()
    }

    fn t_at(&self, log_snr: f64) -> f64 {
        let sigma = (-0.5 * log_snr).exp();
        let t = if sigma < self.sigma_min {
            sigma / self.sigma_min * Self::FIRST
        } else {
            let (low, high) = self.roots;
            Self::FIRST + (1.0 - Self::FIRST) * (root(sigma) - low) / (high - low)
        };
        t.clamp(0.0, 1.0)
    }
}
