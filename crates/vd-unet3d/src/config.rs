//! The configuration of a network, as plain data.

mod cond;
mod network;
mod paper;
mod presets;
mod validate;
mod written;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vd_tensor_ops::layers::{NormKind, Wrap};

use crate::SPATIAL_HEAD_DIM;

pub use cond::{Axes, SignalConfig, TokensConfig};
pub use network::{EmbeddingConfig, EmbeddingKind, Skips, TimeEmbedding, TimePositions};
pub use presets::Preset;

/// Configuration of a [`UNet3d`](crate::UNet3d).
///
/// In a file the key `preset` names the architecture that the other keys modify; it is resolved on
/// reading, and the written config has every relevant key and no preset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "written::Written")]
pub struct UNet3dConfig {
    /// Base number of channels, multiplied by `dim_mults`; also the number of sinusoidal features
    /// of time.
    pub dim: i64,
    /// Channels after the first convolution; default `dim`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_dim: Option<i64>,
    /// Kernel of the first convolution, odd.
    pub init_kernel_size: i64,
    /// Channels of each level, in multiples of `dim`; each level except the last halves the frame
    /// size.
    pub dim_mults: Vec<i64>,
    /// Channels of the video.
    pub channels: i64,
    /// Channels of the output; default `channels`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_dim: Option<i64>,
    /// Width of the conditioning embedding. Default: the width of the tokens if it is pooled from
    /// them ([`TokensConfig::pool`]), otherwise no embedding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cond_dim: Option<i64>,
    /// Heads of every attention; ignored if `heads_by_channels` is on.
    pub attn_heads: i64,
    /// Head dimension of the temporal attentions.
    pub attn_dim_head: i64,
    /// Whether each level without full attention has linear spatial attention.
    pub use_sparse_linear_attn: bool,
    /// The norm after the convolutions of the residual blocks.
    pub norm: NormKind,
    /// Whether the skip from the first convolution to the last block starts before the first
    /// temporal attention.
    pub skip_before_temporal: bool,
    /// Whether a focus mask also applies to the first temporal attention.
    pub mask_first_temporal: bool,
    /// How the network uses the tokens of a text; not at all by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokensConfig>,
    /// Conditioning inputs besides the text, by name ([`Cond::signals`](crate::Cond::signals)).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub signals: BTreeMap<String, SignalConfig>,
    /// Whether full spatial attention has a relative position bias, in buckets of vertical and
    /// horizontal distance.
    #[serde(skip_serializing_if = "is_false")]
    pub spatial_bias: bool,
    /// Token shift: axes along which some channels are taken from the neighbours before each
    /// attention; an eighth of the channels for each of the two directions in time and the four in
    /// space, without overlap. The order does not matter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub token_shift: Vec<Axes>,
    /// Residual blocks per level of the downsampling path.
    #[serde(skip_serializing_if = "is_two")]
    pub blocks: i64,
    /// Levels, 0 the finest, with full spatial attention and temporal attention. The others have
    /// linear spatial and temporal attention if `use_sparse_linear_attn` is on, otherwise no
    /// attention. Default: no level has full attention, all have temporal attention, and another
    /// one follows the first convolution. The middle always has both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_levels: Option<Vec<usize>>,
    /// Which skips connect the downsampling path to the upsampling path, and where attention is.
    #[serde(skip_serializing_if = "is_default")]
    pub skips: Skips,
    /// Head dimension of the spatial attentions; default [`SPATIAL_HEAD_DIM`].
    ///
    /// [`SPATIAL_HEAD_DIM`]: crate::SPATIAL_HEAD_DIM
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spatial_dim_head: Option<i64>,
    /// Whether an attention has as many heads as fit into its channels, at least one, instead of
    /// `attn_heads`.
    #[serde(skip_serializing_if = "is_false")]
    pub heads_by_channels: bool,
    /// The embedding of time and text.
    #[serde(skip_serializing_if = "is_default")]
    pub embedding: EmbeddingConfig,
    /// Which number the network gets for the noise level.
    #[serde(skip_serializing_if = "is_default")]
    pub time: TimeEmbedding,
    /// How temporal attention encodes the positions of frames.
    #[serde(skip_serializing_if = "is_default")]
    pub time_positions: TimePositions,
    /// Dropout rate between the two convolutions of a block, in training.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropout: f64,
    /// Whether every block and every attention starts as the identity, and the network with output
    /// 0: the gain of the second norm, the output projections of the attentions and the last layer
    /// start at zero.
    #[serde(skip_serializing_if = "is_false")]
    pub zero_init: bool,
    /// Kernel size, odd, of a temporal convolution after each spatial one, which starts as the
    /// identity; none by default. Frames that must not see each other exchange nothing in it.
    ///
    /// # Reference
    /// Singer et al. 2022, section 3.2.1, arXiv:2209.14792.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temporal_kernel: Option<i64>,
    /// Axes along which spatial convolutions wrap around the frame instead of padding with zeros.
    #[serde(skip_serializing_if = "is_default")]
    pub wrap: Wrap,
}

fn is_false(on: &bool) -> bool {
    !on
}

fn is_two(n: &i64) -> bool {
    *n == 2
}

fn is_zero(x: &f64) -> bool {
    *x == 0.0
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for UNet3dConfig {
    fn default() -> Self {
        Self::video_diffusion_pytorch_0_7()
    }
}

impl UNet3dConfig {
    /// The defaults of video-diffusion-pytorch 0.7, with dim = 64.
    pub fn video_diffusion_pytorch_0_7() -> Self {
        UNet3dConfig {
            dim: 64,
            init_dim: None,
            init_kernel_size: 7,
            dim_mults: vec![1, 2, 4, 8],
            channels: 3,
            out_dim: None,
            cond_dim: None,
            attn_heads: 8,
            attn_dim_head: 32,
            use_sparse_linear_attn: true,
            norm: NormKind::Rms,
            skip_before_temporal: false,
            mask_first_temporal: false,
            tokens: None,
            signals: BTreeMap::new(),
            spatial_bias: false,
            token_shift: Vec::new(),
            blocks: 2,
            attention_levels: None,
            skips: Skips::Level,
            spatial_dim_head: None,
            heads_by_channels: false,
            embedding: EmbeddingConfig::default(),
            time: TimeEmbedding::Step,
            time_positions: TimePositions::Bias,
            dropout: 0.0,
            zero_init: false,
            temporal_kernel: None,
            wrap: Wrap::default(),
        }
    }

    /// Channels after the first convolution.
    pub fn first_channels(&self) -> i64 {
        self.init_dim.unwrap_or(self.dim)
    }

    /// Channels of the output.
    pub fn out_channels(&self) -> i64 {
        self.out_dim.unwrap_or(self.channels)
    }

    /// Width of the conditioning embedding, if there is one.
    pub fn pooled_width(&self) -> Option<i64> {
        let pool = || self.tokens.as_ref().filter(|tokens| tokens.pool).map(|tokens| tokens.dim);
        self.cond_dim.or_else(pool)
    }

    /// Width of the embedding of time.
    pub fn time_width(&self) -> i64 {
        self.embedding.width.unwrap_or(4 * self.dim)
    }

    /// Width of the embedding as the residual blocks get it.
    pub fn embedding_width(&self) -> i64 {
        let beside = match self.embedding.kind {
            EmbeddingKind::Film => self.pooled_width().unwrap_or(0),
            EmbeddingKind::Add => 0,
        };
        self.time_width() + beside
    }

    /// Number and width of the heads of an attention with this many channels.
    pub(crate) fn heads(&self, axes: Axes, channels: i64) -> (i64, i64) {
        let dim = match axes {
            Axes::Space => self.spatial_dim_head.unwrap_or(SPATIAL_HEAD_DIM),
            Axes::Time => self.attn_dim_head,
        };
        let by_channels = || (channels / dim.max(1)).max(1);
        (if self.heads_by_channels { by_channels() } else { self.attn_heads }, dim)
    }

    /// The largest number of heads of any attention along these axes: that for the largest number
    /// of channels.
    pub(crate) fn most_heads(&self, axes: Axes) -> i64 {
        let widest = self.level_channels().iter().flat_map(|(a, b)| [*a, *b]).max();
        self.heads(axes, widest.unwrap_or(1)).0
    }

    /// Channels that the signals concatenate with the video before the first convolution: those of
    /// each video, and one that marks where it is given.
    pub fn extra_channels(&self) -> i64 {
        let channels = |signal: &SignalConfig| match signal {
            SignalConfig::Video { channels } => channels + 1,
            _ => 0,
        };
        self.signals.values().map(channels).sum()
    }

    /// What couples the frames of a video despite any [`FrameMask`](crate::FrameMask): images after
    /// a clip are then not independent of it. `None` if nothing does.
    pub fn coupling(&self) -> Option<String> {
        match self.norm {
            NormKind::Rms => None,
            NormKind::Group { groups } => Some(format!(
                "model.norm = {{ kind = \"group\", groups = {groups} }}, whose statistics cover all frames"
            )),
        }
    }

    /// Height and width must be divisible by this: a factor of 2 for each level except the last.
    pub fn spatial_multiple(&self) -> i64 {
        1 << self.dim_mults.len().saturating_sub(1)
    }

    /// Channels before and after each level.
    pub(crate) fn level_channels(&self) -> Vec<(i64, i64)> {
        let after: Vec<i64> = self.dim_mults.iter().map(|m| self.dim * m).collect();
        let before = std::iter::once(self.first_channels()).chain(after.iter().copied());
        before.zip(after.iter().copied()).collect()
    }
}
