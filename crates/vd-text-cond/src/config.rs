//! The text side of a model's config.

use serde::{Deserialize, Serialize};

use crate::{EncoderConfig, Error, NullEmbedding, Result};

/// How prompts condition a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// The encoder of prompts.
    pub encoder: EncoderConfig,
    /// The fraction of training samples whose embedding is replaced by the network's null
    /// embedding.
    ///
    /// # Range
    /// [0, 1); 0 leaves the null embedding untrained and excludes guidance
    #[serde(default = "default_drop")]
    pub drop: f64,
}

impl TextConfig {
    /// This encoder, with the default drop rate.
    pub fn new(encoder: EncoderConfig) -> Self {
        TextConfig { encoder, drop: default_drop() }
    }

    /// Checks what can be checked without opening a file.
    ///
    /// # Errors
    /// A rate outside [0, 1); an encoder of width 0.
    pub fn validate(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.drop) {
            return Err(Error::Value {
                what: "text.drop",
                expected: "a share in [0, 1)".to_owned(),
                got: self.drop.to_string(),
            });
        }
        self.encoder.validate()
    }

    /// Whether training with this config uses the null embedding.
    pub fn null(&self) -> NullEmbedding {
        if self.drop > 0.0 { NullEmbedding::Trained } else { NullEmbedding::Untrained }
    }
}

fn default_drop() -> f64 {
    0.1
}
