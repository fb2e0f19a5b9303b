//! Named tables of betas.

use super::BetaTable;
use crate::error::in_range;
use crate::{Error, Result};

/// Refuses a number of entries out of range; the error contains the schedule's name.
pub(super) fn check_steps(schedule: &str, steps: usize) -> Result<()> {
    if (1..=1_000_000).contains(&steps) {
        return Ok(());
    }
    let expected = "a number from 1 to 1000000";
    Err(Error::value(format!("schedule {schedule}: steps"), expected, steps))
}

/// Linear interpolation between two numbers; exact at both ends.
fn lerp(first: f64, last: f64, fraction: f64) -> f64 {
    first * (1.0 - fraction) + last * fraction
}

impl BetaTable {
    /// Betas spaced evenly from the first to the last.
    ///
    /// 1e-4 and 0.02 are meant for 1000 entries; with fewer entries larger betas are needed to
    /// reach pure noise.
    ///
    /// # Range
    /// `steps` from 1 to 1,000,000; betas greater than 0 and less than 1. A table of one entry has
    /// the first beta.
    ///
    /// # Errors
    /// Settings out of range.
    ///
    /// # Reference
    /// Ho et al. 2020, section 4, arXiv:2006.11239.
    pub fn linear(steps: usize, beta_first: f64, beta_last: f64) -> Result<Self> {
        spread("linear", steps, beta_first, beta_last, |u| lerp(beta_first, beta_last, u))
    }

    /// Betas whose square roots are spaced evenly from the first to the last: Stable Diffusion's
    /// table for 0.00085 and 0.012.
    ///
    /// # Range
    /// As [`BetaTable::linear`].
    ///
    /// # Errors
    /// Settings out of range.
    ///
    /// # Reference
    /// Rombach et al. 2022, arXiv:2112.10752 (its code; the paper says linear).
    pub fn scaled_linear(steps: usize, beta_first: f64, beta_last: f64) -> Result<Self> {
        let root = |u| lerp(beta_first.sqrt(), beta_last.sqrt(), u);
        spread("scaled-linear", steps, beta_first, beta_last, |u| root(u) * root(u))
    }

    /// Betas along a sigmoid from -6 to 6: it starts a quarter of a percent of the way from the
    /// first to the last, and ends equally far before the last.
    ///
    /// This is the `sigmoid` of diffusers. That of Jabri et al. 2022, arXiv:2212.11972, differs:
    /// there alpha^2, not beta, follows the sigmoid.
    ///
    /// # Range
    /// As [`BetaTable::linear`].
    ///
    /// # Errors
    /// Settings out of range.
    ///
    /// # Reference
    /// Xu et al. 2022 (GeoDiff), appendix, arXiv:2203.02923.
    pub fn sigmoid(steps: usize, beta_first: f64, beta_last: f64) -> Result<Self> {
        let along = |u: f64| 1.0 / (1.0 + (6.0 - 12.0 * u).exp());
        spread("sigmoid", steps, beta_first, beta_last, |u| lerp(beta_first, beta_last, along(u)))
    }

    /// The same table without signal at its last entry: alpha is shifted and scaled so that the
    /// first entry is unchanged and the last is 0.
    ///
    /// A table that already ends without signal is returned unchanged.
    ///
    /// # Errors
    /// A table of one entry, for which this is impossible.
    ///
    /// # Reference
    /// Lin et al. 2023, algorithm 1, arXiv:2305.08891.
    pub fn zero_terminal_snr(&self) -> Result<Self> {
        let alphas = self.alphas();
        let [_, .., last] = alphas[..] else {
            let what = "schedule with zero_terminal_snr: entries";
            return Err(Error::value(what, "at least two", alphas.len()));
        };
        let rescaled = self.betas().iter().enumerate().map(|(i, &beta)| match i {
            0 => beta,
            _ => {
                // 1 - r^2, with r the new ratio of alphas, without the cancellation in 1 - r; the
                // last is exactly 1.
                let before = alphas[i - 1];
                let fall = before * beta / (1.0 + (1.0 - beta).sqrt()) / (before - last);
                if i + 1 == alphas.len() { 1.0 } else { fall * (2.0 - fall) }
            }
        });
        BetaTable::new(&rescaled.collect::<Vec<_>>())
    }
}

/// A table of `steps` betas, each a function of its relative position from the first (0) to the
/// last (1).
fn spread(
    name: &str,
    steps: usize,
    beta_first: f64,
    beta_last: f64,
    beta: impl Fn(f64) -> f64,
) -> Result<BetaTable> {
    check_steps(name, steps)?;
    for (which, value) in [("beta_first", beta_first), ("beta_last", beta_last)] {
        in_range(&format!("schedule {name}: {which}"), value, 1e-12, 1.0 - 1e-12)?;
    }
    let fraction = |i: usize| i as f64 / (steps - 1).max(1) as f64;
    let betas: Vec<f64> = (0..steps).map(|i| beta(fraction(i))).collect();
    BetaTable::new(&betas)
}
