//! Spacings by noise level, between the ends of a schedule.

use super::entries::ENTRIES;
use crate::error::in_range;
use crate::{Error, NoiseLevel, Result, Schedule};

pub(super) fn uniform_log_snr(schedule: &dyn Schedule, steps: usize) -> Result<Vec<NoiseLevel>> {
    between_ends(schedule, steps, |first, last, u| first + (last - first) * u)
}

/// Refuses a rho so large that it has no further effect.
pub(super) fn check_rho(rho: f64) -> Result<()> {
    in_range("spacing karras: rho", rho, 1.0, 1000.0)
}

pub(super) fn karras(schedule: &dyn Schedule, steps: usize, rho: f64) -> Result<Vec<NoiseLevel>> {
    check_rho(rho)?;
    between_ends(schedule, steps, |first, last, u| {
        // (sigma / alpha)^(1 / rho), and its inverse.
        let root = |log_snr: f64| (-0.5 * log_snr / rho).exp();
        -2.0 * rho * (root(first) + (root(last) - root(first)) * u).ln()
    })
}

/// A grid whose log-SNRs `place` puts between those of the ends, for relative positions from 0 to
/// 1; an end of infinite log-SNR is an additional level.
fn between_ends(
    schedule: &dyn Schedule,
    steps: usize,
    place: impl Fn(f64, f64, f64) -> f64,
) -> Result<Vec<NoiseLevel>> {
    let n = schedule.steps().unwrap_or(ENTRIES) as f64;
    let (noise, clean) = (schedule.at(1.0), schedule.at(0.0));
    let no_signal = noise.log_snr() == f64::NEG_INFINITY;
    let no_noise = clean.log_snr() == f64::INFINITY;
    let first = if no_signal { schedule.at((n - 1.0) / n) } else { noise };
    let last = if no_noise { schedule.at(1.0 / n) } else { clean };
    let (from, to) = (first.log_snr(), last.log_snr());
    // Number of levels of finite log-SNR.
    let finite = steps + 1 - usize::from(no_signal) - usize::from(no_noise);
    if finite > 1 && from >= to {
        let at_most = steps + 1 - finite;
        let expected = format!("at most {at_most}: only one noise level has a finite log-SNR");
        return Err(Error::value("sampling steps", expected, steps));
    }
    let level = |i: usize| match (i, no_signal, no_noise) {
        // A single level: the end that must be included, or halfway between two ends that are
        // infinite.
        (0, true, true) if finite == 1 => schedule.at_log_snr(place(from, to, 0.5)),
        (0, true, false) if finite == 1 => last,
        (0, ..) => first,
        (i, ..) if i + 1 == finite => last,
        (i, ..) => schedule.at_log_snr(place(from, to, i as f64 / (finite - 1) as f64)),
    };
    let mut grid = Vec::with_capacity(steps + 1);
    grid.extend(no_signal.then_some(noise));
    grid.extend((0..finite).map(level));
    grid.extend(no_noise.then_some(clean));
    Ok(grid)
}
