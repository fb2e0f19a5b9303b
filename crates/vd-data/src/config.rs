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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn four_lines_are_enough_and_the_rest_has_defaults() {
        let text = "source = { kind = \"folder\", path = \"videos\" }\nframes = 8\nsize = [32, 32]\nstride = 1\n";
        let config: DataConfig = toml::from_str(text).unwrap();
        assert_eq!(
            config,
            DataConfig { source: Source::folder("videos"), ..DataConfig::default() }
        );
        for kind in ["fireworks", "digits"] {
            let text = format!("source = {{ kind = \"{kind}\" }}");
            toml::from_str::<DataConfig>(&text).unwrap().validate().unwrap();
        }
    }

    #[test]
    fn unknown_keys_are_refused_with_the_expected_names() {
        for (text, expected) in [
            ("source = { kind = \"fireworks\" }\nframe = 8", "frames"),
            ("source = { kind = \"fireworks\", two_burst = 1.0 }", "two_bursts"),
            ("source = { kind = \"folder\", path = \"a\", deep = 1 }", "path"),
            ("source = { kind = \"firework\" }", "fireworks"),
            ("source = { kind = \"digits\", digit = 1 }", "digits"),
            ("frames = 8", "source"),
            ("source = { kind = \"digits\" }\ncrop = \"left\"", "centre"),
        ] {
            let error = toml::from_str::<DataConfig>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn captions_come_from_beside_from_a_table_or_from_folders() {
        let read = |captions: &str| {
            let text = format!("source = {{ kind = \"folder\", path = \"v\"{captions} }}");
            toml::from_str::<DataConfig>(&text).map_err(|e| e.to_string())
        };
        let table = Captions::Table(PathBuf::from("a.csv"));
        for (text, expected) in [
            ("", Captions::Beside),
            (", captions = \"beside\"", Captions::Beside),
            (", captions = \"folders\"", Captions::Folders),
            (", captions = { table = \"a.csv\" }", table),
        ] {
            let config = read(text).unwrap();
            let source = Source::Folder { path: PathBuf::from("v"), captions: expected };
            assert_eq!(config.source, source);
            let written = toml::to_string(&config).unwrap();
            // a config without the setting is what it was before there was one
            assert_eq!(
                written.contains("captions"),
                text.contains("folders") || text.contains("table")
            );
            assert_eq!(toml::from_str::<DataConfig>(&written).unwrap(), config);
        }
        assert!(read(", captions = \"folder\"").unwrap_err().contains("folders"));
        assert!(read(", captions = { tables = \"a.csv\" }").unwrap_err().contains("table"));
        let empty = read(", captions = { table = \"\" }").unwrap().validate().unwrap_err();
        assert!(empty.to_string().starts_with("data.source.captions.table"));
    }

    #[test]
    fn a_config_survives_being_written_and_read() {
        let config = DataConfig {
            crop: Crop::Random,
            short: Short::Skip,
            source: Source::Digits(DigitsConfig::default()),
            ..DataConfig::default()
        };
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<DataConfig>(&text).unwrap(), config);
    }

    #[test]
    fn numbers_outside_their_range_are_named() {
        let base = DataConfig::default;
        let bad = [
            (DataConfig { frames: 0, ..base() }, "data.frames"),
            (DataConfig { size: [32, 0], ..base() }, "data.size"),
            (DataConfig { size: [1 << 20, 8], ..base() }, "data.size"),
            (DataConfig { stride: 0, ..base() }, "data.stride"),
            (DataConfig { frames: 65_537, ..base() }, "data.frames"),
            (DataConfig { stride: usize::MAX, ..base() }, "data.stride"),
            (DataConfig { size: [8, 16_385], ..base() }, "data.size"),
            (DataConfig { channels: 4, ..base() }, "data.channels"),
            (DataConfig { workers: 1000, ..base() }, "data.workers"),
        ];
        for (config, key) in bad {
            assert!(config.validate().unwrap_err().to_string().starts_with(key));
        }
    }
}
