//! What must hold of the levels of a grid.

use crate::{Error, NoiseLevel, Result};

/// Whether there is less noise at `to`. False where a level is not a number.
pub(crate) fn falls(from: NoiseLevel, to: NoiseLevel) -> bool {
    to.log_snr() > from.log_snr()
}

/// What is wrong with the levels, the noisiest first: a time that is none, or noise that does not
/// fall.
pub(crate) fn fault(grid: &[NoiseLevel]) -> Option<String> {
    // Ranges of t, as those of guidance, would silently never be entered.
    if let Some(i) = grid.iter().position(|at| !(0.0..=1.0).contains(&at.t)) {
        return Some(format!("expected every t from 0 to 1, got {:?} at place {i}", grid[i]));
    }
    let i = grid.windows(2).position(|pair| !falls(pair[0], pair[1]))?;
    Some(format!(
        "expected less noise from level to level, got {:?} after {:?} at place {}",
        grid[i + 1],
        grid[i],
        i + 1
    ))
}

/// Refuses levels that are fewer than two, that do not fall in noise or whose times are none.
pub(crate) fn check_grid(grid: &[NoiseLevel]) -> Result<()> {
    if grid.len() < 2 {
        return Err(Error::Grid(format!("expected at least two levels, got {}", grid.len())));
    }
    fault(grid).map_or(Ok(()), |fault| Err(Error::Grid(fault)))
}
