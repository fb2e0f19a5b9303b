//! How many noise levels sampling visits, and which.

use serde::{Deserialize, Serialize};

use crate::named::name_or_table;
use crate::{Error, NoiseLevel, Result, Schedule};

/// Where the levels of a sampling grid lie.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Spacing {
    /// Even in t, from 1 to 0: t_i = 1 - i / S for S steps.
    ///
    /// In a discrete table of N entries each t_i is rounded to the nearest entry (half a step
    /// goes to the noisier one), so that the network sees only times it was trained on. The first
    /// is the last entry, N - 1; S = N visits every entry; the last step goes from entry
    /// round(N / S) - 1 to clean.
    #[default]
    UniformT,
    /// Even in log-SNR, from that of t = 1 to that of t = 0; both must be finite.
    UniformLogSnr,
    /// These times, falling, the last included: S steps are S + 1 times.
    Explicit {
        /// Times, the noisiest first.
        t: Vec<f64>,
    },
}

name_or_table!(
    Spacing,
    "the name of a spacing, or a table with its `kind`",
    UniformT => "uniform-t",
    UniformLogSnr => "uniform-log-snr",
);

impl Spacing {
    /// The levels that `steps` steps go through, the noisiest first: one more than steps.
    ///
    /// # Errors
    /// No steps; more steps than a discrete schedule has entries; ends that are not finite, where
    /// that is needed; explicit times that are not as many as the steps need or outside [0, 1].
    pub fn grid(&self, schedule: &dyn Schedule, steps: usize) -> Result<Vec<NoiseLevel>> {
        if steps == 0 {
            return Err(Error::value("sampling steps", "at least 1", steps));
        }
        match self {
            Spacing::UniformT => uniform_t(schedule, steps),
            Spacing::UniformLogSnr => uniform_log_snr(schedule, steps),
            Spacing::Explicit { t } => explicit(schedule, t, steps),
        }
    }
}

fn uniform_t(schedule: &dyn Schedule, steps: usize) -> Result<Vec<NoiseLevel>> {
    let Some(n) = schedule.steps() else {
        return Ok((0..=steps).map(|i| schedule.at(1.0 - i as f64 / steps as f64)).collect());
    };
    if steps > n {
        let expected = format!("at most {n}, the entries of the discrete schedule");
        return Err(Error::value("sampling steps", expected, steps));
    }
    // Entries are at least one apart before rounding, so they stay distinct.
    let position = |i: usize| (2 * n * (steps - i) + steps) / (2 * steps);
    Ok((0..=steps).map(|i| schedule.at(position(i) as f64 / n as f64)).collect())
}

fn uniform_log_snr(schedule: &dyn Schedule, steps: usize) -> Result<Vec<NoiseLevel>> {
    let (first, last) = (schedule.at(1.0).log_snr(), schedule.at(0.0).log_snr());
    if !(first.is_finite() && last.is_finite()) {
        let got = format!("{first} at t = 1 and {last} at t = 0");
        return Err(Error::value("spacing uniform-log-snr", "a finite log-SNR at both ends", got));
    }
    let log_snr = |i: usize| first + (last - first) * i as f64 / steps as f64;
    Ok((0..=steps).map(|i| schedule.at_log_snr(log_snr(i))).collect())
}

fn explicit(schedule: &dyn Schedule, t: &[f64], steps: usize) -> Result<Vec<NoiseLevel>> {
    if t.len() != steps + 1 {
        let expected = format!("{} times for {steps} steps, the last included", steps + 1);
        return Err(Error::value("spacing explicit: t", expected, format!("{} times", t.len())));
    }
    if let Some(bad) = t.iter().find(|t| !(0.0..=1.0).contains(*t)) {
        return Err(Error::value("spacing explicit: t", "times from 0 to 1", bad));
    }
    Ok(t.iter().map(|t| schedule.at(*t)).collect())
}
