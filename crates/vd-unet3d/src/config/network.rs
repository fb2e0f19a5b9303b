//! Named choices of the architecture.

use serde::{Deserialize, Serialize};

/// Which skips connect the downsampling path to the upsampling path, and what follows each block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Skips {
    /// One skip from the end of each level; attention follows the last block of a level. A long
    /// skip connects the first convolution to an additional block at the end.
    #[default]
    Level,
    /// Skips from the first convolution, every block and every downsampling; attention follows each
    /// block. The upsampling path has one more block per level, and ends with a norm and a
    /// convolution.
    ///
    /// # Reference
    /// Ho et al. 2020, arXiv:2006.11239; Dhariwal & Nichol 2021, arXiv:2105.05233.
    Block,
}

/// How the embedding enters a residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EmbeddingKind {
    /// As a scale and a shift per channel; the embedding of the text is concatenated with that of
    /// time.
    #[default]
    Film,
    /// Added to each channel; the text passes through the layers of the embedding together with
    /// time.
    Add,
}

/// The embedding that conditions every residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddingConfig {
    /// How it enters a block.
    pub kind: EmbeddingKind,
    /// Width of the embedding of time; default 4 dim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<i64>,
    /// Number of linear layers, with GELU between them.
    pub layers: i64,
}

impl Default for EmbeddingConfig {
    fn default() -> Self {
        EmbeddingConfig { kind: EmbeddingKind::Film, width: None, layers: 2 }
    }
}

/// Which number the network gets for the noise level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeEmbedding {
    /// A step from 0 to 1000, used directly in the sinusoids.
    #[default]
    Step,
    /// The log-SNR, for schedules with that time input. The angle atan(exp(-log_snr / 2)), as a
    /// fraction of pi/2, is scaled to the range of the steps.
    ///
    /// # Reference
    /// Salimans & Ho 2022, arXiv:2202.00512: their networks use this fraction.
    LogSnr,
}

/// How temporal attention encodes the positions of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "ReadPositions", into = "TablePositions")]
pub enum TimePositions {
    /// Rotary position embedding, and a bias on the scores in buckets of distance.
    #[default]
    Bias,
    /// Learned vectors for each distance, added to keys and values.
    ///
    /// # Reference
    /// Shaw et al. 2018, arXiv:1803.02155.
    Shaw {
        /// Distance from which on all frames share one vector.
        distance: i64,
    },
}

/// The form in files: a name if there are no settings, otherwise a table.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "\"bias\", or a table { kind = \"shaw\", distance = 15 }")]
enum ReadPositions {
    Name(NamedPositions),
    Table(TablePositions),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum NamedPositions {
    Bias,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum TablePositions {
    Bias,
    Shaw { distance: i64 },
}

impl From<ReadPositions> for TimePositions {
    fn from(read: ReadPositions) -> Self {
        match read {
            ReadPositions::Name(NamedPositions::Bias)
            | ReadPositions::Table(TablePositions::Bias) => TimePositions::Bias,
            ReadPositions::Table(TablePositions::Shaw { distance }) => {
                TimePositions::Shaw { distance }
            }
        }
    }
}

impl From<TimePositions> for TablePositions {
    fn from(positions: TimePositions) -> Self {
        match positions {
            TimePositions::Bias => TablePositions::Bias,
            TimePositions::Shaw { distance } => TablePositions::Shaw { distance },
        }
    }
}
