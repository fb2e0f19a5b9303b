//! CLIP.

use super::Architecture;
use super::settings::Settings;
use crate::Result;

/// The text side of a CLIP that a config.json describes.
pub(super) fn read(settings: &Settings) -> Result<Box<dyn Architecture>> {
    Err(settings.refuse("model_type", "another one", "clip"))
}
