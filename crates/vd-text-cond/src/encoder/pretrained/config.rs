//! Which model, and what is made of its output.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tch::Kind;

use crate::{Error, Result};

/// A model in a directory of the Hugging Face layout: see [`Pretrained`](crate::Pretrained).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainedConfig {
    /// The directory: config.json, tokenizer.json and model.safetensors; relative paths start at the
    /// current directory.
    pub path: PathBuf,
    /// What one vector is made of a prompt's tokens.
    #[serde(default)]
    pub pooling: Pooling,
    /// The layer whose output is taken.
    #[serde(default)]
    pub layer: Layer,
    /// Whether the pooled vector is divided by its length.
    #[serde(default)]
    pub normalize: bool,
    /// Whether a prompt that is too long is cut, with a warning; else it is an error.
    #[serde(default)]
    pub truncate: bool,
    /// The numbers that the model computes with; what it gives is f32.
    #[serde(default)]
    pub precision: Precision,
    /// The most prompts that are encoded at a time. One by one, an embedding has the same bits
    /// whatever is encoded beside it, and a run that is resumed ends with the bytes of one that was
    /// not; several at a time are faster, and differ in the last digits.
    #[serde(default = "default_batch")]
    pub batch: usize,
    /// A directory that keeps what was encoded, made where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
}

impl PretrainedConfig {
    /// The model in this directory, with every setting at its default.
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

/// What one vector is made of a prompt's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The first token, which is `[CLS]` in a BERT.
    Cls,
    /// The mean of the prompt's own tokens: without `[CLS]`, `[SEP]`, `</s>` and padding. A prompt
    /// without tokens is the mean of the special ones.
    #[default]
    Mean,
    /// The mean as video-diffusion-pytorch takes it (`bert_embed` with `return_cls_repr = False`):
    /// of everything behind the first token, the last `[SEP]` included. For its checkpoints.
    Peer,
    /// The token that ends the prompt: the end-of-text token of a CLIP, else the last one.
    Eos,
}

/// The layer of a model whose output is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The last one, behind the norm that follows it in some models.
    #[default]
    Last,
    /// The one before it, as it stands.
    Penultimate,
}

/// The numbers that a model computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the range of f32.
    Bf16,
    /// 16 bits of a smaller range.
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
