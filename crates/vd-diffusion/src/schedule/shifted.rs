//! Any schedule, with more or less noise at every time.

use super::Schedule;
use crate::error::in_range;
use crate::{NoiseLevel, Result};

/// A schedule whose log-SNR at every time is that of another schedule plus a constant.
///
/// Neighbouring pixels of a large image are redundant, so the same log-SNR destroys less of it: a
/// schedule made for side d0 suits side d after a shift of 2 ln(d0 / d), which is negative for
/// larger images.
///
/// The shift preserves what the other schedule preserves: alpha if that is always 1, alpha + sigma
/// if that is always 1, and alpha^2 + sigma^2 in all other cases. The time input is the other
/// schedule's at the same t: step numbers stay step numbers, and a log-SNR or sigma is the one
/// before the shift.
///
/// # Reference
/// Hoogeboom et al. 2023, section 3.1, arXiv:2301.11093.
#[derive(Debug)]
pub struct Shifted {
    inner: Box<dyn Schedule>,
    log_snr_shift: f64,
    kept: Kept,
}

/// The quantity that a level keeps under the shift.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kept {
    Signal,
    Sum,
    Variance,
}

impl Kept {
    fn by(schedule: &dyn Schedule) -> Kept {
        let levels = [0.25, 0.5, 0.75, 1.0].map(|t| schedule.at(t));
        // With hardly any noise, alpha rounds to 1 whichever quantity is preserved.
        if levels[3].sigma < 1e-7 {
            Kept::Variance
        } else if levels.iter().all(|at| at.alpha == 1.0) {
            Kept::Signal
        } else if levels.iter().all(|at| (at.alpha + at.sigma - 1.0).abs() < 1e-10) {
            Kept::Sum
        } else {
            Kept::Variance
        }
    }
}

impl Shifted {
    /// The schedule `inner` with `log_snr_shift` added to its log-SNR.
    ///
    /// # Range
    /// `log_snr_shift` from -20 to 20.
    ///
    /// # Errors
    /// A shift outside that range.
    pub fn new(inner: Box<dyn Schedule>, log_snr_shift: f64) -> Result<Self> {
        in_range("schedule shifted: log_snr_shift", log_snr_shift, -20.0, 20.0)?;
        let kept = Kept::by(inner.as_ref());
        Ok(Shifted { inner, log_snr_shift, kept })
    }
}

impl Schedule for Shifted {
    fn at(&self, t: f64) -> NoiseLevel {
        let at = self.inner.at(t);
        let sigma = at.sigma * (-0.5 * self.log_snr_shift).exp();
        let scale = match self.kept {
            Kept::Signal => 1.0,
            Kept::Sum => (at.alpha + at.sigma) / (at.alpha + sigma),
            Kept::Variance => at.alpha.hypot(at.sigma) / at.alpha.hypot(sigma),
        };
        NoiseLevel { alpha: at.alpha * scale, sigma: sigma * scale, ..at }
    }

    fn time_input(&self, t: f64) -> f64 {
        self.inner.time_input(t)
    }

    fn t_at(&self, log_snr: f64) -> f64 {
        self.inner.t_at(log_snr - self.log_snr_shift)
    }

    fn steps(&self) -> Option<usize> {
        self.inner.steps()
    }
}
