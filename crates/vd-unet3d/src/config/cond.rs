//! Conditioning inputs besides a pooled embedding.

use serde::{Deserialize, Serialize};

/// How a network uses the tokens of a text. At least one option must be on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokensConfig {
    /// Width of the tokens; 0 stands for the encoder's until a run's config is completed.
    #[serde(default)]
    pub dim: i64,
    /// The attentions (spatial, temporal) of every level that are followed by cross-attention from
    /// positions to tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cross: Vec<Axes>,
    /// Number of memory tokens, keys and values computed from the text, that are added to those of
    /// every spatial and temporal attention; 0 is none, 4 to 8 are usual.
    #[serde(default)]
    pub memory: i64,
    /// Whether the embedding of the text is pooled from the tokens by attention trained with the
    /// network, as in the paper, instead of given.
    #[serde(default)]
    pub pool: bool,
}

/// Space or time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axes {
    /// Height and width.
    Space,
    /// Frames.
    Time,
}

/// A conditioning input besides the text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SignalConfig {
    /// One of several classes.
    ///
    /// # Shapes
    /// i64, b or b f, from 0 to the number of classes - 1
    Class {
        /// Their names, in the order of their indices; an empty list stands for those of the data
        /// until a run's config is completed.
        #[serde(default)]
        classes: Vec<String>,
    },
    /// A number. Large numbers, such as times, keep their precision if given in double precision.
    ///
    /// # Shapes
    /// b or b f
    Scalar {
        /// Subtracted from it.
        #[serde(default)]
        mean: f64,
        /// Then divides it.
        #[serde(default = "one")]
        std: f64,
    },
    /// A vector, for the clip or for each frame.
    ///
    /// # Shapes
    /// b d or b f d
    Series {
        /// Its length d.
        width: i64,
    },
    /// A video given alongside the noisy one: a low resolution upsampled to full size, or known
    /// pixels and their mask.
    ///
    /// # Shapes
    /// b c f h w, in [-1, 1]
    Video {
        /// Its channels c.
        channels: i64,
    },
}

fn one() -> f64 {
    1.0
}
