//! Noise as a function of time, in f64 on the host.

mod beta_table;
mod check;
mod config;
mod cosine;
mod cosine_discrete;
mod edm;
mod flow;
mod shifted;
mod tables;
mod time_input;

pub(crate) use check::check_schedule;

pub use beta_table::{BetaTable, betas_from_f32};
pub use config::ScheduleConfig;
pub use cosine::Cosine;
pub use cosine_discrete::CosineDiscrete;
pub use edm::Edm;
pub use flow::Flow;
pub use shifted::Shifted;
pub use time_input::TimeInput;

use std::fmt::Debug;

use crate::NoiseLevel;

/// Maps time to noise level.
///
/// # Range
/// t in [0, 1], 0 is clean. alpha and sigma are finite on [0, 1]; log-SNR is finite and strictly
/// falling on (0, 1). alpha = 0 at t = 1 and sigma = 0 at t = 0 are legal.
pub trait Schedule: Debug + Send + Sync {
    /// The noise level at a time. The schedules of this crate clamp a time outside [0, 1] to the
    /// nearest end, here and in `time_input`.
    fn at(&self, t: f64) -> NoiseLevel;

    /// The network's time input: a step number, or a log-SNR.
    fn time_input(&self, t: f64) -> f64;

    /// The time of a log-SNR, clamped to [0, 1].
    fn t_at(&self, log_snr: f64) -> f64;

    /// The level of a log-SNR; midpoints and churn need levels between the points of a grid.
    fn at_log_snr(&self, log_snr: f64) -> NoiseLevel {
        self.at(self.t_at(log_snr))
    }

    /// The number N of entries of a discrete table, in which entry i is t = (i + 1) / N. `None` for
    /// a continuous schedule.
    fn steps(&self) -> Option<usize> {
        None
    }
}
