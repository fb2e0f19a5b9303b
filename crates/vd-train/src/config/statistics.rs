//! The statistics by which a run's numbers are normalised.

use crate::checkpoint::{Use, newest_unwarned};
use crate::{Result, RunConfig};

/// Fills in missing statistics of rules from the run that already exists in `train.out` and would
/// be resumed; without one they are measured when the data are opened.
pub(super) fn complete(config: &mut RunConfig) -> Result<()> {
    let Some(rules) = config.data.normalise.as_ref().filter(|rules| !rules.is_full()) else {
        return Ok(());
    };
    let before =
        newest_unwarned(&config.train.out, Use::Resume)?.and_then(|found| found.config.data);
    let before = before.and_then(|data| data.normalise);
    let filled = before.and_then(|before| rules.with_statistics_of(&before, config.data.channels));
    if filled.is_some() {
        config.data.normalise = filled;
    }
    Ok(())
}
