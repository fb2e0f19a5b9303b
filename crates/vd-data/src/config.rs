//! What a run reads, and how.

mod images;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::array::Axes;
use crate::captions::Captions;
use crate::clip::check_shape;
use crate::floats::check_floats;
use crate::generate::{DigitsConfig, FireworksConfig};
use crate::normalise::Normalise;
use crate::{Error, Result};

pub use images::ImagesConfig;

/// The most frames of a clip.
pub const MAX_FRAMES: u32 = 65_536;

/// Where clips come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Source {
    /// Videos below a folder: see [`crate::Folder`].
    Folder {
        /// The folder.
        path: PathBuf,
        /// Where the captions come from.
        #[serde(default, skip_serializing_if = "Captions::is_beside")]
        captions: Captions,
    },
    /// Clips that were prepared from a folder: see [`crate::prepare`].
    Shards {
        /// The folder of shards.
        path: PathBuf,
    },
    /// Fireworks drawn by the program, without end.
    Fireworks(FireworksConfig),
    /// Moving digits drawn by the program, without end.
    Digits(DigitsConfig),
    /// Clips of a [`Generator`](crate::Generator) that a program passes to
    /// [`Dataset::endless`](crate::Dataset::endless): no config can open it.
    Program,
}

impl Source {
    /// The videos below a folder, with the captions that stand beside them.
    pub fn folder(path: impl Into<PathBuf>) -> Self {
        Self::Folder { path: path.into(), captions: Captions::Beside }
    }
}

impl Default for Source {
    fn default() -> Self {
        Self::Fireworks(FireworksConfig::default())
    }
}

/// Which part of a frame is kept where its sides have another ratio than `size`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crop {
    /// The middle.
    #[default]
    #[serde(alias = "center")]
    Centre,
    /// Any part, drawn once per clip.
    Random,
}

/// What becomes of a clip with too few frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Short {
    /// Its last frame is repeated, and the repeats are marked so that a loss can leave them out.
    #[default]
    Pad,
    /// It is left out.
    Skip,
}

/// The `[data]` section of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Where clips come from.
    pub source: Source,
    /// Frames per clip.
    #[serde(default = "default_frames")]
    pub frames: usize,
    /// Height and width in pixels.
    #[serde(default = "default_size")]
    pub size: [usize; 2],
    /// Every `stride`-th frame of a file is taken; the generators tell their whole story in `frames` frames and ignore it.
    #[serde(default = "one")]
    pub stride: usize,
    /// 1 (grey) or 3 (red, green, blue); of arrays any number, theirs.
    #[serde(default = "default_channels")]
    pub channels: usize,
    /// Which part of a frame is kept.
    #[serde(default)]
    pub crop: Crop,
    /// Whether every second clip, drawn at random, is mirrored left to right.
    #[serde(default)]
    pub flip: bool,
    /// What becomes of a clip with fewer than `(frames - 1) * stride + 1` frames.
    #[serde(default)]
    pub short: Short,
    /// A run stops when more files than this cannot be read.
    #[serde(default = "default_max_bad_files")]
    pub max_bad_files: usize,
    /// Threads that load ahead; 0 loads in the calling thread. The batches do not depend on it.
    #[serde(default = "default_workers")]
    pub workers: usize,
    /// Which axis of an array is what; 3 axes are `fhw` and 4 are `fhwc` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub axes: Option<Axes>,
    /// The array of an `.npz` or safetensors file that is taken; all are, where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The number that stands where none was measured; NaN and infinities are missing in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid: Option<f64>,
    /// How numbers become those of the diffusion process; where nothing is said bytes, 0 to 255, become
    /// [-1, 1], and no other numbers are taken.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "normalize")]
    pub normalise: Option<Normalise>,
    /// Independent images behind the frames of each clip; none where not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<ImagesConfig>,
}

fn default_frames() -> usize {
    8
}

fn default_size() -> [usize; 2] {
    [32, 32]
}

fn one() -> usize {
    1
}

fn default_channels() -> usize {
    3
}

fn default_max_bad_files() -> usize {
    100
}

fn default_workers() -> usize {
    2
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            source: Source::default(),
            frames: default_frames(),
            size: default_size(),
            stride: one(),
            channels: default_channels(),
            crop: Crop::default(),
            flip: false,
            short: Short::default(),
            max_bad_files: default_max_bad_files(),
            workers: default_workers(),
            axes: None,
            member: None,
            invalid: None,
            normalise: None,
            images: None,
        }
    }
}

impl DataConfig {
    /// How many frames of a file one clip spans.
    pub fn span(&self) -> usize {
        self.frames.saturating_sub(1) * self.stride + 1
    }

    /// Checks every number against its range.
    ///
    /// # Errors
    /// Names the first that is outside.
    pub fn validate(&self) -> Result<()> {
        const MAX_WORKERS: usize = 256;
        let frames = 1..=MAX_FRAMES as usize;
        let side = 1..=crate::decode::MAX_SIDE as usize;
        if !frames.contains(&self.frames) {
            let expected = format!("1 to {MAX_FRAMES}");
            return Err(Error::config("data.frames", expected, self.frames));
        }
        if !self.size.iter().all(|n| side.contains(n)) {
            let expected = format!("[height, width] in pixels, each 1 to {}", side.end());
            return Err(Error::config("data.size", expected, format!("{:?}", self.size)));
        }
        if !frames.contains(&self.stride) {
            let expected = format!("1 to {MAX_FRAMES}");
            return Err(Error::config("data.stride", expected, self.stride));
        }
        self.check_channels()?;
        if self.workers > MAX_WORKERS {
            let expected = format!("0 to {MAX_WORKERS}");
            return Err(Error::config("data.workers", expected, self.workers));
        }
        let images = self.images.as_ref().map_or(0, |images| images.per_clip);
        let frames = self.frames.saturating_add(images);
        match self.takes_floats() {
            true => check_floats(frames, self.size, self.channels)?,
            false => check_shape(frames, self.size, self.channels)?,
        }
        self.images.as_ref().map_or(Ok(()), ImagesConfig::validate)?;
        self.source.validate()
    }
}

#[cfg(test)]
mod tests;
