//! T5.

use super::Architecture;
use super::settings::Settings;
use crate::Result;

/// The encoder of a T5 that a config.json describes.
pub(super) fn read(settings: &Settings) -> Result<Box<dyn Architecture>> {
    Err(settings.refuse("model_type", "another one", "t5"))
}
