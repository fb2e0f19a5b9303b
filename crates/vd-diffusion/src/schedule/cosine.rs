//! The continuous cosine schedule with bounded log-SNR.

use std::f64::consts::FRAC_PI_2;

use super::{Schedule, TimeInput};
use crate::error::in_range;
use crate::{Error, NoiseLevel, Result};

/// Cosine in time, variance-preserving: the angle atan(sigma / alpha) is linear in t.
///
/// # Reference
/// Salimans & Ho 2022, appendix, arXiv:2202.00512; the bounds are those of Ho et al. 2022,
/// arXiv:2204.03458: log_snr(t) = -2 log tan(a t + b).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cosine {
    /// The angle of the noise at t = 0.
    first: f64,
    /// The angle of the signal at t = 1.
    last: f64,
    /// The angle swept between them.
    swept: f64,
    time_input: TimeInput,
}

impl Cosine {
    /// The schedule between two log-SNRs.
    ///
    /// # Range
    /// -40 <= `log_snr_min` < `log_snr_max` <= 40; -20 and 20 in the paper.
    ///
    /// # Errors
    /// Bounds outside that range.
    pub fn new(log_snr_min: f64, log_snr_max: f64, time_input: TimeInput) -> Result<Self> {
        in_range("schedule cosine: log_snr_min", log_snr_min, -40.0, 40.0)?;
        in_range("schedule cosine: log_snr_max", log_snr_max, -40.0, 40.0)?;
        if log_snr_min >= log_snr_max {
            let expected = format!("more than log_snr_min = {log_snr_min}");
            return Err(Error::value("schedule cosine: log_snr_max", expected, log_snr_max));
        }
        let (first, last) = (angle(-log_snr_max), angle(log_snr_min));
        Ok(Cosine { first, last, swept: FRAC_PI_2 - first - last, time_input })
    }
}

/// atan(exp(log_ratio / 2)).
fn angle(log_ratio: f64) -> f64 {
    (0.5 * log_ratio).exp().atan()
}

impl Schedule for Cosine {
    fn at(&self, t: f64) -> NoiseLevel {
        let t = t.clamp(0.0, 1.0);
        // Each angle is measured from its own axis, so that small angles keep their precision.
        let sigma = (self.first + self.swept * t).sin();
        let alpha = (self.last + self.swept * (1.0 - t)).sin();
        NoiseLevel { t, alpha, sigma }
    }

    fn time_input(&self, t: f64) -> f64 {
        match self.time_input {
            TimeInput::T1000 => 1000.0 * t.clamp(0.0, 1.0),
            TimeInput::LogSnr => self.at(t).log_snr(),
        }
    }

    fn t_at(&self, log_snr: f64) -> f64 {
        let t = if log_snr > 0.0 {
            (angle(-log_snr) - self.first) / self.swept
        } else {
            1.0 - (angle(log_snr) - self.last) / self.swept
        };
        t.clamp(0.0, 1.0)
    }
}
