//! Noise as a function of time, in f64 on the host.

mod beta_table;
mod config;
mod cosine;
mod cosine_discrete;
mod edm;
mod flow;
mod shifted;
mod tables;
mod time_input;

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
    /// The noise level at a time; the schedules of this crate take a time outside [0, 1] for the
    /// nearest end, here and in `time_input`.
    fn at(&self, t: f64) -> NoiseLevel;

    /// What the network is told about a time: a step number, or a log-SNR.
    fn time_input(&self, t: f64) -> f64;

    /// The time of a log-SNR, clamped to [0, 1].
    fn t_at(&self, log_snr: f64) -> f64;

    /// The level of a log-SNR: midpoints and churn ask for it between the points of a grid.
    fn at_log_snr(&self, log_snr: f64) -> NoiseLevel {
        self.at(self.t_at(log_snr))
    }

    /// The number N of entries of a discrete table; entry i is t = (i + 1) / N. `None` where
    /// every time is as good as another.
    fn steps(&self) -> Option<usize> {
        None
    }
}
