//! Spacings in terms of the entries of a table.

use crate::{Error, NoiseLevel, Result, Schedule};

/// Number of entries that a continuous schedule counts as, for spacings that need one.
pub(super) const ENTRIES: usize = 1000;

/// The number of entries of a table, checked to suffice for this many steps; `None` if the schedule
/// is continuous.
fn enough(schedule: &dyn Schedule, steps: usize) -> Result<Option<usize>> {
    match schedule.steps() {
        Some(n) if steps > n => {
            let expected = format!("at most {n}, the entries of the discrete schedule");
            Err(Error::value("sampling steps", expected, steps))
        }
        entries => Ok(entries),
    }
}

/// Entries (possibly fractional) of a table of `n`, the noisiest first, then clean.
fn visit(
    schedule: &dyn Schedule,
    n: usize,
    steps: usize,
    entry: impl Fn(usize) -> f64,
) -> Vec<NoiseLevel> {
    let time = |i| (entry(i) + 1.0) / n as f64;
    (0..steps).map(|i| schedule.at(time(i))).chain([schedule.at(0.0)]).collect()
}

pub(super) fn uniform_t(schedule: &dyn Schedule, steps: usize) -> Result<Vec<NoiseLevel>> {
    let Some(n) = enough(schedule, steps)? else {
        return Ok((0..=steps).map(|i| schedule.at(1.0 - i as f64 / steps as f64)).collect());
    };
    // Entries are at least one apart before rounding, so they stay distinct.
    let position = |i: usize| (2 * n * (steps - i) + steps) / (2 * steps);
    Ok((0..=steps).map(|i| schedule.at(position(i) as f64 / n as f64)).collect())
}

pub(super) fn trailing(schedule: &dyn Schedule, steps: usize) -> Result<Vec<NoiseLevel>> {
    let Some(n) = enough(schedule, steps)? else {
        return uniform_t(schedule, steps);
    };
    // numpy's arange adds multiples of the difference of its first two numbers. Halves are rounded
    // to even, and where N / S is inexact its rounding decides.
    let last = n as f64;
    let stride = (last - last / steps as f64) - last;
    Ok(visit(schedule, n, steps, |i| (last + i as f64 * stride).round_ties_even() - 1.0))
}

pub(super) fn leading(schedule: &dyn Schedule, steps: usize) -> Result<Vec<NoiseLevel>> {
    let entries = enough(schedule, steps)?;
    let n = entries.unwrap_or(ENTRIES.max(steps));
    let stride = match entries {
        Some(n) => (n / steps) as f64,
        None => n as f64 / steps as f64,
    };
    Ok(visit(schedule, n, steps, |i| (steps - 1 - i) as f64 * stride))
}

pub(super) fn linspace(schedule: &dyn Schedule, steps: usize) -> Result<Vec<NoiseLevel>> {
    let entries = enough(schedule, steps)?;
    let n = entries.unwrap_or(ENTRIES.max(steps));
    // As in numpy's linspace the stride is rounded first, which decides how halves are rounded; the
    // last entry is exact.
    let stride = (n - 1) as f64 / (steps - 1).max(1) as f64;
    let entry = |i: usize| {
        if i == 0 && steps > 1 { (n - 1) as f64 } else { (steps - 1 - i) as f64 * stride }
    };
    Ok(visit(schedule, n, steps, |i| match entries {
        Some(_) => entry(i).round_ties_even(),
        None => entry(i),
    }))
}
