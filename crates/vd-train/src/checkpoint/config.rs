//! The config beside a checkpoint's weights.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use vd_data::DataConfig;
use vd_diffusion::DiffusionConfig;
use vd_text_cond::TextConfig;
use vd_unet3d::UNet3dConfig;

use crate::{Error, Result, RunConfig, SignalSource, TrainConfig};

/// The content of a checkpoint's `config.toml`: the config of the run that wrote it, or, for
/// imported weights, the model with its `[origin]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// The network.
    pub model: UNet3dConfig,
    /// The diffusion process.
    pub diffusion: DiffusionConfig,
    /// How prompts condition it, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextConfig>,
    /// The sources of its other conditioning inputs, if it was trained here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub signals: BTreeMap<String, SignalSource>,
    /// The data that it was trained on, if it was trained here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataConfig>,
    /// How it was trained, if it was trained here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train: Option<TrainConfig>,
    /// Where it came from, if it was not trained here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// The origin of imported weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The program that trained them.
    pub program: String,
    /// Its version.
    pub version: String,
    /// The number of steps that they were trained for, if the file says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Frames of a clip, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames: Option<usize>,
    /// Height and width of a clip, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
}

impl CheckpointConfig {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        toml::from_str(&text).map_err(|e| Error::Parse {
            path: path.to_path_buf(),
            message: e.to_string().trim_end().to_owned(),
        })
    }

    /// The config as TOML; parsing it gives an equal config.
    ///
    /// # Errors
    /// Numbers that TOML cannot represent.
    pub fn to_toml(&self) -> Result<String> {
        crate::config::to_toml(self)
    }

    /// Whether the run learned an uncertainty of its loss.
    pub(super) fn has_uncertainty(&self) -> bool {
        self.train.as_ref().is_some_and(|train| train.uncertainty > 0)
    }

    /// The config of the run, if it was trained here.
    pub fn run(&self) -> Option<RunConfig> {
        Some(RunConfig {
            model: self.model.clone(),
            diffusion: self.diffusion.clone(),
            text: self.text.clone(),
            signals: self.signals.clone(),
            data: self.data.clone()?,
            train: self.train.clone()?,
        })
    }
}
