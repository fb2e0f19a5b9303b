//! Number and placement of the noise levels visited by sampling.

mod between_ends;
mod entries;

use serde::{Deserialize, Serialize};

use crate::grid::fault;
use crate::named::name_or_table;
use crate::{Error, NoiseLevel, Result, Schedule};

/// Where the levels of a sampling grid lie.
///
/// Every grid except `Explicit` ends at t = 0, the cleanest level of its schedule.
///
/// `Karras`, `Exponential` and `UniformLogSnr` need ends of finite log-SNR. If the schedule is
/// clean at t = 0, they end at its first entry, followed by one last step to clean; if it has no
/// signal at t = 1, they start there and go on from its last entry but one. A continuous schedule
/// counts as a table of 1000 entries for this. Levels between the entries of a table are not
/// rounded, so the network's time input may be fractional.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Spacing {
    /// Even in t, from 1 to 0: t_i = 1 - i / S for S steps.
    ///
    /// In a discrete table of N entries each t_i is rounded to the nearest entry (halves to the
    /// noisier one), so that the network sees only times it was trained on. The first is the last
    /// entry, N - 1; S = N visits every entry; the last step goes from entry round(N / S) - 1 to
    /// clean.
    #[default]
    UniformT,
    /// Even in log-SNR.
    UniformLogSnr,
    /// Even in (sigma / alpha)^(1 / rho).
    ///
    /// # Range
    /// `rho` from 1 (even in sigma / alpha) to 1000 (nearly even in log-SNR).
    ///
    /// # Reference
    /// Karras et al. 2022, equation 5, arXiv:2206.00364.
    Karras {
        /// How much shorter the steps become towards clean.
        #[serde(default = "default_rho")]
        rho: f64,
    },
    /// Even in log(sigma / alpha): the levels of `UniformLogSnr`, under the name used by
    /// k-diffusion and diffusers.
    Exponential,
    /// Every N / S-th of N entries, counted down from the last one.
    ///
    /// In a table these are the steps of diffusers' `timestep_spacing = "trailing"`: i N / S in
    /// f64, halves rounded to even. On a continuous schedule it is `UniformT`.
    ///
    /// # Reference
    /// Lin et al. 2023, table 2, arXiv:2305.08891.
    Trailing,
    /// Every floor(N / S)-th of N entries, counted up from the first: sampling does not start from
    /// the noisiest level, and a single step starts from the first entry.
    ///
    /// In a table these are the steps of diffusers' `timestep_spacing = "leading"` with
    /// `steps_offset = 0`. On a continuous schedule the entries are those of a table of 1000 (or S,
    /// if that is more), every N / S-th without rounding.
    ///
    /// # Reference
    /// Lin et al. 2023, table 2, arXiv:2305.08891.
    Leading,
    /// Entries spaced evenly from the last to the first, both included; a single step starts from
    /// the first.
    ///
    /// In a table these are the steps of diffusers' `timestep_spacing = "linspace"`, rounded as in
    /// its DDIM (halves to even), whereas its Euler interpolates between entries. On a continuous
    /// schedule the entries are those of a table of 1000 (or S, if that is more), without rounding.
    ///
    /// # Reference
    /// Lin et al. 2023, table 2, arXiv:2305.08891.
    Linspace,
    /// These times, in falling order and including the last: S steps need S + 1 times.
    Explicit {
        /// Times, the noisiest first.
        t: Vec<f64>,
    },
}

name_or_table!(
    Spacing,
    "spacing",
    [
        UniformT => "uniform-t",
        UniformLogSnr => "uniform-log-snr",
        Exponential => "exponential",
        Trailing => "trailing",
        Leading => "leading",
        Linspace => "linspace",
    ],
    [Karras => "karras", Explicit => "explicit"],
);

fn default_rho() -> f64 {
    7.0
}

impl Spacing {
    /// The spacing of Karras et al. with rho = 7.
    pub fn karras() -> Self {
        Spacing::Karras { rho: default_rho() }
    }

    /// Every spacing that can be given by name alone, with its default settings.
    pub fn all() -> Vec<Spacing> {
        vec![
            Spacing::UniformT,
            Spacing::UniformLogSnr,
            Spacing::karras(),
            Spacing::Exponential,
            Spacing::Trailing,
            Spacing::Leading,
            Spacing::Linspace,
        ]
    }

    /// Refuses settings that are invalid for every schedule.
    ///
    /// # Errors
    /// Names the setting, its allowed values and its value.
    pub fn validate(&self) -> Result<()> {
        match self {
            Spacing::Karras { rho } => between_ends::check_rho(*rho),
            Spacing::Explicit { t } => check_times(t).and_then(|()| check_falling(t)),
            _ => Ok(()),
        }
    }

    /// The levels visited by `steps` steps, the noisiest first: `steps` + 1 of them.
    ///
    /// # Errors
    /// No steps; more steps than a discrete schedule has entries, for the spacings that visit
    /// entries; rho out of range; explicit times whose number does not match the steps, or that lie
    /// outside [0, 1] or do not fall; levels so dense that they do not fall.
    pub fn grid(&self, schedule: &dyn Schedule, steps: usize) -> Result<Vec<NoiseLevel>> {
        if steps == 0 {
            return Err(Error::value("sampling steps", "at least 1", steps));
        }
        let grid = match self {
            Spacing::UniformT => entries::uniform_t(schedule, steps),
            Spacing::Trailing => entries::trailing(schedule, steps),
            Spacing::Leading => entries::leading(schedule, steps),
            Spacing::Linspace => entries::linspace(schedule, steps),
            Spacing::UniformLogSnr | Spacing::Exponential => {
                between_ends::uniform_log_snr(schedule, steps)
            }
            Spacing::Karras { rho } => between_ends::karras(schedule, steps, *rho),
            Spacing::Explicit { t } => explicit(schedule, t, steps),
        }?;
        match fault(&grid) {
            None => Ok(grid),
            Some(fault) => {
                Err(Error::Grid(format!("spacing {} of {steps} steps: {fault}", self.name())))
            }
        }
    }
}

fn explicit(schedule: &dyn Schedule, t: &[f64], steps: usize) -> Result<Vec<NoiseLevel>> {
    if t.len() != steps + 1 {
        let expected = format!("{} times for {steps} steps, the last included", steps + 1);
        return Err(Error::value("spacing explicit: t", expected, format!("{} times", t.len())));
    }
    check_times(t)?;
    Ok(t.iter().map(|t| schedule.at(*t)).collect())
}

fn check_times(t: &[f64]) -> Result<()> {
    match t.iter().find(|t| !(0.0..=1.0).contains(*t)) {
        Some(bad) => Err(Error::value("spacing explicit: t", "times from 0 to 1", bad)),
        None => Ok(()),
    }
}

/// The requirements on a grid's levels, checked without a schedule.
fn check_falling(t: &[f64]) -> Result<()> {
    let refuse = |expected, got| Err(Error::value("spacing explicit: t", expected, got));
    match t.windows(2).find(|pair| pair[0] <= pair[1]) {
        Some(pair) => refuse("decreasing times", format!("{} after {}", pair[1], pair[0])),
        None if t.len() < 2 => refuse("2 times or more, the last included", format!("{t:?}")),
        None => Ok(()),
    }
}
