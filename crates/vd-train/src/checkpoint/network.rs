//! Loads a checkpoint's network for use.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tch::{Device, Kind};
use vd_data::Normaliser;
use vd_tensor_ops::{Params, Weights};
use vd_text_cond::{EncoderConfig, NullEmbedding, PretrainedConfig, TextEncoder};
use vd_unet3d::UNet3d;

use super::Checkpoint;
use crate::{Error, Result, SignalSource};

/// The shape that is assumed for clips of unknown shape: frames, and height and width.
pub const ASSUMED_SHAPE: (usize, [usize; 2]) = (16, [64, 64]);

/// Which set of weights of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WeightKind {
    /// The moving average.
    Ema,
    /// The trained weights.
    Model,
}

impl WeightKind {
    /// All of them, in order of preference.
    pub const ALL: [WeightKind; 2] = [WeightKind::Ema, WeightKind::Model];

    pub(super) fn file(self) -> &'static str {
        match self {
            WeightKind::Ema => "ema.safetensors",
            WeightKind::Model => "model.safetensors",
        }
    }
}

impl fmt::Display for WeightKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WeightKind::Ema => "ema",
            WeightKind::Model => "model",
        })
    }
}

impl FromStr for WeightKind {
    type Err = String;

    fn from_str(s: &str) -> std::result::Result<Self, String> {
        match s {
            "ema" => Ok(WeightKind::Ema),
            "model" => Ok(WeightKind::Model),
            _ => Err(format!("expected ema or model, got \"{s}\"")),
        }
    }
}

/// A network with its weights.
#[derive(Debug)]
#[non_exhaustive]
pub struct LoadedNetwork {
    /// The network.
    pub network: UNet3d,
    /// Its parameters.
    pub params: Params,
    /// Which weights were loaded.
    pub weights: WeightKind,
}

/// The shape of a model's clips.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Geometry {
    /// Frames.
    pub frames: usize,
    /// Height and width.
    pub size: [usize; 2],
    /// Frames per second.
    pub fps: f64,
    /// Whether the shape is unknown, and this is a guess.
    pub assumed: bool,
}

impl Checkpoint {
    /// The sets of weights in the checkpoint, in order of preference.
    pub fn weights(&self) -> Vec<WeightKind> {
        WeightKind::ALL.into_iter().filter(|kind| self.weight_path(*kind).is_file()).collect()
    }

    pub(crate) fn optimizer_path(&self) -> PathBuf {
        self.dir.join(super::OPTIMIZER)
    }

    pub(crate) fn uncertainty_path(&self) -> PathBuf {
        self.dir.join(super::UNCERTAINTY)
    }

    /// The path of a set of weights.
    pub fn weight_path(&self, kind: WeightKind) -> PathBuf {
        self.dir.join(kind.file())
    }

    /// The network with the requested weights; by default the moving average, if there is one.
    ///
    /// # Errors
    /// Weights that the checkpoint does not have, or that do not fit its config.
    pub fn network(&self, kind: Option<WeightKind>, device: Device) -> Result<LoadedNetwork> {
        let there = self.weights();
        let found = match kind {
            Some(kind) => there.iter().find(|one| **one == kind),
            None => there.first(),
        };
        let Some(weights) = found.copied() else {
            let names: Vec<_> = there.iter().map(WeightKind::to_string).collect();
            let wanted = kind.map_or("any".to_owned(), |kind| kind.to_string());
            let what = format!("has no {wanted} weights; it has: {}", names.join(", "));
            return Err(Error::checkpoint(&self.dir, what));
        };
        let mut params = Params::new(0, Kind::Float, device);
        let network = UNet3d::new(&self.config.model, &mut params.root())?;
        let path = self.weight_path(weights);
        let file = Weights::read(&path, device)?;
        params.load(&file.tensors).map_err(|e| Error::checkpoint(&path, e.to_string()))?;
        Ok(LoadedNetwork { network, params, weights })
    }

    /// The encoder of its prompts, if known; without the cache that was used in training.
    ///
    /// # Errors
    /// An encoder's file that cannot be read; an encoder that differs from the one used in
    /// training.
    pub fn encoder(&self) -> Result<Option<Box<dyn TextEncoder>>> {
        let Some(text) = &self.config.text else { return Ok(None) };
        let mut encoder = text.encoder.clone();
        if let EncoderConfig::Pretrained(config) = &mut encoder {
            // It is in the folder of a training run; a few prompts need no cache.
            config.cache = None;
        }
        self.same_encoder(encoder.build()?).map(Some)
    }

    /// Like [`Checkpoint::encoder`], for an encoder whose directory or file was moved.
    ///
    /// # Errors
    /// As [`Checkpoint::encoder`]; an encoder that is not stored in a file.
    pub fn encoder_at(&self, path: &Path) -> Result<Option<Box<dyn TextEncoder>>> {
        let Some(text) = &self.config.text else { return Ok(None) };
        let moved = path.to_path_buf();
        let encoder = match &text.encoder {
            EncoderConfig::Pretrained(config) => EncoderConfig::Pretrained(PretrainedConfig {
                path: moved,
                cache: None,
                ..config.clone()
            }),
            // Its prompts are looked for beside it.
            EncoderConfig::File { .. } => EncoderConfig::File { path: moved, prompts: None },
            EncoderConfig::Hashed { .. } => {
                let what = "has a hashed encoder, which is not stored in a file";
                return Err(Error::checkpoint(&self.dir, what.to_owned()));
            }
        };
        self.same_encoder(encoder.build()?).map(Some)
    }

    /// The encoder, unless it is known to differ from the one used in training.
    fn same_encoder(&self, encoder: Box<dyn TextEncoder>) -> Result<Box<dyn TextEncoder>> {
        // Checked only if needed: for a language model it reads all files.
        if self.state.as_ref().is_some_and(|state| state.encoder.is_some()) {
            self.check_encoder(encoder.identity()?.as_deref())?;
        }
        Ok(encoder)
    }

    /// Refuses an encoder whose identity differs from the one used in training.
    pub(crate) fn check_encoder(&self, got: Option<&str>) -> Result<()> {
        let expected = self.state.as_ref().and_then(|state| state.encoder.as_deref());
        match (expected, got) {
            (Some(expected), Some(got)) if expected != got => Err(Error::OtherEncoder {
                checkpoint: self.dir.clone(),
                expected: expected.to_owned(),
                got: got.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Whether its null embedding was trained.
    pub fn null(&self) -> NullEmbedding {
        match &self.config.text {
            Some(text) => text.null(),
            None => NullEmbedding::Unknown,
        }
    }

    /// The names of its network's signals, and whether the null embedding of each was trained.
    pub fn signal_nulls(&self) -> Vec<(String, NullEmbedding)> {
        let sources = &self.config.signals;
        let null = |name| sources.get(name).map_or(NullEmbedding::Unknown, SignalSource::null);
        self.config.model.signals.keys().map(|name| (name.clone(), null(name))).collect()
    }

    /// The mapping of its clips back to their unit; `None` if they are pixels, or if it is unknown.
    ///
    /// # Errors
    /// A config whose statistics are missing or outside their range.
    pub fn normaliser(&self) -> Result<Option<Normaliser>> {
        match &self.config.data {
            Some(data) => Ok(data.normaliser()?),
            None => Ok(None),
        }
    }

    /// The shape of its clips, or a guess.
    pub fn geometry(&self) -> Geometry {
        let data = self.config.data.as_ref().map(|data| (data.frames, data.size));
        let origin = || {
            let origin = self.config.origin.as_ref()?;
            Some((origin.frames?, origin.size?))
        };
        let known = data.or_else(origin);
        let (frames, size) = known.unwrap_or(ASSUMED_SHAPE);
        let fps = self.state.as_ref().map_or(vd_data::UNSTATED_FPS, |state| state.fps);
        Geometry { frames, size, fps, assumed: known.is_none() }
    }
}
