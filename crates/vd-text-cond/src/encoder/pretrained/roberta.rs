//! RoBERTa and its descendants: a BERT whose positions begin behind the id of the padding.

use super::Architecture;
use super::bert::{Bert, Positions};
use super::settings::Settings;
use crate::Result;

/// The id of `<pad>` in a RoBERTa whose config.json does not say.
const PAD: i64 = 1;

/// The RoBERTa that a config.json describes.
///
/// # Reference
/// Liu et al. 2019, RoBERTa: A Robustly Optimized BERT Pretraining Approach, arXiv:1907.11692.
pub(super) fn read(settings: &Settings) -> Result<Box<dyn Architecture>> {
    Ok(Box::new(Bert::read(settings, PAD, Positions::BehindPadding)?))
}
