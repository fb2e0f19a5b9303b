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

/// Encodes prompts as the conditioning of a network.
///
/// The embedding of a prompt does not depend on the other prompts of the batch.
pub trait TextEncoder: Debug + Send {
    /// The width d of the embeddings; equal to the network's `cond_dim`.
    fn width(&self) -> i64;

    /// The width of the tokens, if the encoder returns tokens besides the embeddings.
    fn token_width(&self) -> Option<i64> {
        None
    }

    /// Identifies the encoder, independently of its location and of how its output is used: a
    /// checkpoint stores the identity of the encoder it was trained with, and refuses others.
    ///
    /// `None` if the encoder cannot be identified, for example a file of embeddings, which may be
    /// replaced by another file of the same model.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn identity(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Whether a prompt can be encoded, as far as this can be checked without encoding it.
    ///
    /// # Errors
    /// As [`encode`](TextEncoder::encode)
    fn check(&self, _prompt: &str) -> Result<()> {
        Ok(())
    }

    /// Encodes one prompt per sample, on `device`.
    ///
    /// # Shapes
    /// b prompts -> pooled b d, f32; tokens b l d, where l is the length of the longest prompt;
    /// tokens past the end of a shorter one have weight 0
    /// # Errors
    /// Prompts that are unknown to the encoder, or too long for it.
    fn encode(&self, prompts: &[&str], device: Device) -> Result<Cond>;
}

/// Choice of encoder in a config.
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
        /// A .safetensors or .npy file; relative paths are relative to the current directory.
        path: PathBuf,
        /// Its prompts, one per line; if omitted, those inside the file, else `NAME.txt` next to
        /// it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prompts: Option<PathBuf>,
    },
    /// A language model in a directory: see [`Pretrained`].
    Pretrained(PretrainedConfig),
}

impl EncoderConfig {
    /// Builds the encoder of this config.
    ///
    /// # Errors
    /// A width below 1; a file that cannot be read or has the wrong content; a directory without a
    /// model.
    pub fn build(&self) -> Result<Box<dyn TextEncoder>> {
        Ok(match self {
            EncoderConfig::Hashed { width } => Box::new(Hashed::new(*width)?),
            EncoderConfig::File { path, prompts } => {
                Box::new(EmbeddingFile::open(path, prompts.as_deref())?)
            }
            EncoderConfig::Pretrained(config) => Box::new(Pretrained::open(config)?),
        })
    }

    /// The width of this encoder's embeddings, and that of its tokens if it returns any, as
    /// [`TextEncoder::width`] and [`TextEncoder::token_width`]: for a language model only
    /// config.json is read.
    ///
    /// # Errors
    /// Those of [`EncoderConfig::build`] that this detects.
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
