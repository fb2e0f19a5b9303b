//! Prompts to embeddings.

mod cache;
mod file;
mod hashed;
mod pretrained;

use std::fmt::Debug;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tch::Device;
use vd_unet3d::Cond;

pub use file::EmbeddingFile;
pub use hashed::Hashed;
pub use pretrained::{Layer, Pooling, Precision, Pretrained, PretrainedConfig};

use crate::{Error, Result};

/// Turns prompts into what a network is conditioned on.
///
/// A prompt's embedding does not depend on the prompts beside it.
pub trait TextEncoder: Debug + Send {
    /// The width d of the embeddings; the network's `cond_dim`.
    fn width(&self) -> i64;

    /// The width of the tokens, where the encoder gives tokens beside the embeddings.
    fn token_width(&self) -> Option<i64> {
        None
    }

    /// What tells the encoder from others, wherever it lies and whatever is made of its output: a
    /// checkpoint keeps that of the encoder that it was trained with, and refuses others.
    ///
    /// `None` where nothing can be told, as of a file of embeddings, which another file of the same
    /// model may follow.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn identity(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Whether a prompt can be encoded, as far as that shows without encoding it.
    ///
    /// # Errors
    /// As [`encode`](TextEncoder::encode)
    fn check(&self, _prompt: &str) -> Result<()> {
        Ok(())
    }

    /// Encodes one prompt per sample, on `device`.
    ///
    /// # Shapes
    /// b prompts -> pooled b d, f32; tokens b l d, of the longest prompt's length l, those behind
    /// the end of a shorter one with weight 0
    /// # Errors
    /// Prompts that the encoder does not know, or that are too long for it.
    fn encode(&self, prompts: &[&str], device: Device) -> Result<Cond>;
}

/// Which encoder, as configs spell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum EncoderConfig {
    /// Words hashed to fixed pseudo-random vectors: see [`Hashed`].
    Hashed {
        /// The width of the embeddings.
        width: i64,
    },
    /// Embeddings looked up in a file: see [`EmbeddingFile`].
    File {
        /// A .safetensors or .npy file; relative paths start at the current directory.
        path: PathBuf,
        /// Its prompts, one a line; where left out, those inside the file, else `NAME.txt` beside it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prompts: Option<PathBuf>,
    },
    /// A language model in a directory: see [`Pretrained`].
    Pretrained(PretrainedConfig),
}

impl EncoderConfig {
    /// The encoder that this config describes.
    ///
    /// # Errors
    /// A width below 1; a file that cannot be read or does not hold what it should; a directory
    /// without a model.
    pub fn build(&self) -> Result<Box<dyn TextEncoder>> {
        Ok(match self {
            EncoderConfig::Hashed { width } => Box::new(Hashed::new(*width)?),
            EncoderConfig::File { path, prompts } => {
                Box::new(EmbeddingFile::open(path, prompts.as_deref())?)
            }
            EncoderConfig::Pretrained(config) => Box::new(Pretrained::open(config)?),
        })
    }

    /// The width of the embeddings that this encoder gives, and that of its tokens if it gives any,
    /// as [`TextEncoder::width`] and [`TextEncoder::token_width`]: of a language model its config.json
    /// alone is read.
    ///
    /// # Errors
    /// As [`EncoderConfig::build`], as far as it is looked at.
    pub fn widths(&self) -> Result<(i64, Option<i64>)> {
        match self {
            EncoderConfig::Pretrained(config) => {
                let width = pretrained::width(config)?;
                Ok((width, Some(width)))
            }
            _ => {
                let encoder = self.build()?;
                Ok((encoder.width(), encoder.token_width()))
            }
        }
    }

    /// Checks what can be checked without opening a file.
    ///
    /// # Errors
    /// A width or a number of prompts below 1.
    pub fn validate(&self) -> Result<()> {
        match self {
            EncoderConfig::Hashed { width } if *width < 1 => Err(Error::Value {
                what: "text.encoder.width",
                expected: "at least 1".to_owned(),
                got: width.to_string(),
            }),
            EncoderConfig::Pretrained(config) => config.validate(),
            _ => Ok(()),
        }
    }
}
