//! Requirements on the levels of a grid.

use crate::{Error, NoiseLevel, Result};

/// Whether `to` has less noise than `from`. False where a level is NaN.
pub(crate) fn falls(from: NoiseLevel, to: NoiseLevel) -> bool {
    to.log_snr() > from.log_snr()
}

/// What is wrong with the levels, listed from the noisiest: a time outside [0, 1], or noise that
/// does not fall.
pub(crate) fn fault(grid: &[NoiseLevel]) -> Option<String> {
    // Otherwise ranges of t, such as those of guidance, would silently never be entered.
    if let Some(i) = grid.iter().position(|at| !(0.0..=1.0).contains(&at.t)) {
        return Some(format!("expected every t from 0 to 1, got {:?} at position {i}", grid[i]));
    }
    let i = grid.windows(2).position(|pair| !falls(pair[0], pair[1]))?;
    Some(format!(
        "expected less noise from level to level, got {:?} after {:?} at position {}",
        grid[i + 1],
        grid[i],
        i + 1
    ))
}

/// Refuses fewer than two levels, levels whose noise does not fall, and times outside [0, 1].
///
/// # Errors
/// The first level at fault, by its place.
pub fn check_grid(grid: &[NoiseLevel]) -> Result<()> {
    if grid.len() < 2 {
        return Err(Error::Grid(format!("expected at least two levels, got {}", grid.len())));
    }
    fault(grid).map_or(Ok(()), |fault| Err(Error::Grid(fault)))
}
