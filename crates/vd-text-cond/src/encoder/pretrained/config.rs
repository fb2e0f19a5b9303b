//! Choice of a pretrained model, and how its output is used.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tch::Kind;

use crate::{Error, Result};

/// A model in a directory of the Hugging Face layout: see [`Pretrained`](crate::Pretrained).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainedConfig {
    /// The directory with config.json, tokenizer.json and model.safetensors; relative paths are
    /// relative to the current directory.
    pub path: PathBuf,
    /// How a prompt's tokens become one vector.
    #[serde(default)]
    pub pooling: Pooling,
    /// The layer whose output is used.
    #[serde(default)]
    pub layer: Layer,
    /// Whether the pooled vector is divided by its norm.
    #[serde(default)]
    pub normalize: bool,
    /// Whether a prompt that is too long is truncated, with a warning; otherwise it is an error.
    #[serde(default)]
    pub truncate: bool,
    /// The number format in which the model computes; its output is converted to f32.
    #[serde(default)]
    pub precision: Precision,
    /// The most prompts that are encoded together. Encoded one by one, an embedding is bitwise
    /// reproducible whatever the other prompts, and a resumed run ends bitwise equal to an
    /// uninterrupted one; several at a time are faster, and differ in the last digits.
    #[serde(default = "default_batch")]
    pub batch: usize,
    /// A directory that caches encoded prompts, created if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
}

impl PretrainedConfig {
    /// The model in this directory, with default settings.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        PretrainedConfig {
            path: path.into(),
            pooling: Pooling::default(),
            layer: Layer::default(),
            normalize: false,
            truncate: false,
            precision: Precision::default(),
            batch: default_batch(),
            cache: None,
        }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if self.batch == 0 {
            return Err(Error::Value {
                what: "text.encoder.batch",
                expected: "at least 1".to_owned(),
                got: "0".to_owned(),
            });
        }
        Ok(())
    }
}

/// How a prompt's tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The first token: `[CLS]` in a BERT.
    Cls,
    /// The mean of the prompt's own tokens, without `[CLS]`, `[SEP]`, `</s>` and padding. For a
    /// prompt without tokens, the mean of the special ones.
    #[default]
    Mean,
    /// The mean as in video-diffusion-pytorch (`bert_embed` with `return_cls_repr = False`): of
    /// everything after the first token, including the last `[SEP]`. For its checkpoints.
    Peer,
    /// The token that ends the prompt: the end-of-text token of a CLIP, otherwise the last one.
    Eos,
}

/// The layer of a model whose output is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The last one, including the norm after it in some models.
    #[default]
    Last,
    /// The one before it, without a norm.
    Penultimate,
}

/// The number format in which a model computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the range of f32.
    Bf16,
    /// 16 bits with a smaller range.
    F16,
}

impl Precision {
    pub(super) fn kind(self) -> Kind {
        match self {
            Precision::F32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
            Precision::F16 => Kind::Half,
        }
    }
}

fn default_batch() -> usize {
    1
}
