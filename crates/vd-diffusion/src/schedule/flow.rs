//! The straight line between data and noise.

use super::Schedule;
use crate::error::in_range;
use crate::{NoiseLevel, Result};

/// Linear flow matching: alpha = 1 - t' and sigma = t', where t' = s t / (1 + (s - 1) t) is the
/// time shifted for resolution by `shift` s; s = 1 is no shift. The time input is 1000 t'.
///
/// s > 1 spends more time at high noise, as large images need: s = m / n for images of side m, if
/// side n needs no shift. This shifts the log-SNR by -2 ln(s), in the sense of
/// [`Shifted`](crate::Shifted).
///
/// # Reference
/// Lipman et al. 2022, arXiv:2210.02747; the shift is Esser et al. 2024, equation 23,
/// arXiv:2403.03206.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flow {
    shift: f64,
}

impl Flow {
    /// The schedule with this shift.
    ///
    /// # Range
    /// `shift` from 0.001 to 1000.
    ///
    /// # Errors
    /// A shift outside that range.
    pub fn new(shift: f64) -> Result<Self> {
        in_range("schedule flow: shift", shift, 1e-3, 1e3)?;
        Ok(Flow { shift })
    }
}

impl Schedule for Flow {
    fn at(&self, t: f64) -> NoiseLevel {
        let t = t.clamp(0.0, 1.0);
        // 1 + (s - 1) t. alpha is not computed as 1 - sigma, which would lose precision at the
        // noisy end.
        let whole = (1.0 - t) + self.shift * t;
        NoiseLevel { t, alpha: (1.0 - t) / whole, sigma: self.shift * t / whole }
    }

    fn time_input(&self, t: f64) -> f64 {
        1000.0 * self.at(t).sigma
    }

    fn t_at(&self, log_snr: f64) -> f64 {
        1.0 / (1.0 + self.shift * (0.5 * log_snr).exp())
    }
}
