//! RoBERTa and its descendants: a BERT whose positions start after the id of the padding.

use super::Architecture;
use super::bert::{Bert, Positions};
use super::settings::Settings;
use crate::Result;

/// The id of `<pad>` in a RoBERTa whose config.json omits it.
const PAD: i64 = 1;

/// The RoBERTa described by a config.json.
///
/// # Reference
/// Liu et al. 2019, RoBERTa: A Robustly Optimized BERT Pretraining Approach, arXiv:1907.11692.
pub(super) fn read(settings: &Settings) -> Result<Box<dyn Architecture>> {
    Ok(Box::new(Bert::read(settings, PAD, Positions::BehindPadding)?))
}
