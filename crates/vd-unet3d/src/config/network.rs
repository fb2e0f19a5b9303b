//! Choices about the network that have a name.

use serde::{Deserialize, Serialize};

/// What crosses from the way down to the way up, and what follows each block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Skips {
    /// The end of each level; attention follows the last block of a level. A long skip goes from the
    /// first convolution to one more block at the end.
    #[default]
    Level,
    /// The first convolution, every block and every halving; attention follows each block. The way
    /// up has one block more at each level, and ends with a norm and a convolution.
    ///
    /// # Reference
    /// Ho et al. 2020, arXiv:2006.11239; Dhariwal & Nichol 2021, arXiv:2105.05233.
    Block,
}

/// How the embedding enters a residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EmbeddingKind {
    /// As a scale and a shift of each channel; the embedding of the text stands beside that of time.
    #[default]
    Film,
    /// Added to each channel; the text goes through the layers with time.
    Add,
}

/// The embedding that conditions every residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddingConfig {
    /// How it enters a block.
    pub kind: EmbeddingKind,
    /// Width of the embedding of time; 4 dim where not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<i64>,
    /// Linear layers that make it, with GELU between them.
    pub layers: i64,
}

impl Default for EmbeddingConfig {
    fn default() -> Self {
        EmbeddingConfig { kind: EmbeddingKind::Film, width: None, layers: 2 }
    }
}

/// What the number is that tells the network the noise level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeEmbedding {
    /// A step of 0 to 1000, whose sinusoids are taken as it is.
    #[default]
    Step,
    /// The log-SNR, for schedules that tell it. The angle atan(exp(-log_snr / 2)), as a share of
    /// pi/2, is brought to the range of the steps.
    ///
    /// # Reference
    /// Salimans & Ho 2022, arXiv:2202.00512: their networks are told that share.
    LogSnr,
}

/// How attention over time knows where frames are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "ReadPositions", into = "TablePositions")]
pub enum TimePositions {
    /// Rotary positions, and a bias in buckets of distance on the scores.
    #[default]
    Bias,
    /// Learned vectors of the distance, for keys and for values.
    ///
    /// # Reference
    /// Shaw et al. 2018, arXiv:1803.02155.
    Shaw {
        /// Distance from which on all frames are equally far.
        distance: i64,
    },
}

/// As files have it: a name where there is nothing else to say, or a table.
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
