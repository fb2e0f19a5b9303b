//! What a network is made of, as plain data.

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

/// What a [`UNet3d`](crate::UNet3d) is made of.
///
/// In a file the key `preset` names the graph that the other keys change; it is resolved at
/// reading, and what is written has every key that matters and no preset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "written::Written")]
pub struct UNet3dConfig {
    /// Channels that `dim_mults` multiplies, and features of the sinusoids of time.
    pub dim: i64,
    /// Channels after the first convolution; `dim` where not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_dim: Option<i64>,
    /// Kernel of the first convolution, odd.
    pub init_kernel_size: i64,
    /// Channels of each level, in multiples of `dim`; each level but the last halves the frame.
    pub dim_mults: Vec<i64>,
    /// Channels of the video.
    pub channels: i64,
    /// Channels of the answer; `channels` where not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_dim: Option<i64>,
    /// Width of the conditioning embedding; where not given, the width of the tokens if it is pooled
    /// from them ([`TokensConfig::pool`]), and none if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cond_dim: Option<i64>,
    /// Heads of every attention; passed over where `heads_by_channels` is on.
    pub attn_heads: i64,
    /// Features of each head of the temporal attentions.
    pub attn_dim_head: i64,
    /// Whether each level without full attention has linear attention over space.
    pub use_sparse_linear_attn: bool,
    /// The norm after the convolutions of the residual blocks.
    pub norm: NormKind,
    /// Whether the skip from the first convolution to the last block is taken before the first
    /// temporal attention.
    pub skip_before_temporal: bool,
    /// Whether the first temporal attention, too, honours a focus mask.
    pub mask_first_temporal: bool,
    /// How it looks at the tokens of a text; not at all where not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokensConfig>,
    /// What it is told besides the text, by name ([`Cond::signals`](crate::Cond::signals)).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub signals: BTreeMap<String, SignalConfig>,
    /// Whether full attention over space has a relative bias, in buckets of distance down and
    /// across.
    #[serde(skip_serializing_if = "is_false")]
    pub spatial_bias: bool,
    /// Along which axes a part of the channels is taken from the neighbour before each attention, an
    /// eighth for each of the two directions in time and the four in space, each with channels of its
    /// own; the order does not matter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub token_shift: Vec<Axes>,
    /// Residual blocks of each level on the way down.
    #[serde(skip_serializing_if = "is_two")]
    pub blocks: i64,
    /// Levels, 0 the finest, with full attention over space and attention over time. The others have
    /// both kinds where `use_sparse_linear_attn` gives them linear attention over space, and none
    /// where it does not. Where not given, no level has full attention, all have attention over
    /// time, and one more of these follows the first convolution. The middle always has both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention_levels: Option<Vec<usize>>,
    /// What crosses from the way down to the way up, and where attention is.
    #[serde(skip_serializing_if = "is_default")]
    pub skips: Skips,
    /// Features of each head of the attentions over space; [`SPATIAL_HEAD_DIM`] where not given.
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
    /// What the number is that tells the noise level.
    #[serde(skip_serializing_if = "is_default")]
    pub time: TimeEmbedding,
    /// How attention over time knows where frames are.
    #[serde(skip_serializing_if = "is_default")]
    pub time_positions: TimePositions,
    /// Share of the values between the two convolutions of a block that training leaves out.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropout: f64,
    /// Whether every block and every attention starts as its skip, and the network with the answer
    /// 0: the gain of the second norm, the way out of the attentions and the last layer are zero.
    #[serde(skip_serializing_if = "is_false")]
    pub zero_init: bool,
    /// Kernel, odd, of a convolution over time behind each one over space, which starts as the
    /// identity; none where not given. Frames that do not see each other give each other nothing.
    ///
    /// # Reference
    /// Singer et al. 2022, section 3.2.1, arXiv:2209.14792.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temporal_kernel: Option<i64>,
    /// Along which axes convolutions over space go on at the other side of the frame instead of at
    /// zeros.
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

    /// Channels of the answer.
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

    /// Width of the embedding that the residual blocks see.
    pub fn embedding_width(&self) -> i64 {
        let beside = match self.embedding.kind {
            EmbeddingKind::Film => self.pooled_width().unwrap_or(0),
            EmbeddingKind::Add => 0,
        };
        self.time_width() + beside
    }

    /// Number and width of the heads of an attention of so many channels.
    pub(crate) fn heads(&self, axes: Axes, channels: i64) -> (i64, i64) {
        let dim = match axes {
            Axes::Space => self.spatial_dim_head.unwrap_or(SPATIAL_HEAD_DIM),
            Axes::Time => self.attn_dim_head,
        };
        let by_channels = || (channels / dim.max(1)).max(1);
        (if self.heads_by_channels { by_channels() } else { self.attn_heads }, dim)
    }

    /// The most heads that any attention along these axes has: those of the widest channels.
    pub(crate) fn most_heads(&self, axes: Axes) -> i64 {
        let widest = self.level_channels().iter().flat_map(|(a, b)| [*a, *b]).max();
        self.heads(axes, widest.unwrap_or(1)).0
    }

    /// Channels that the signals put beside the video before the first convolution: those of each
    /// video, and one that says where it is given.
    pub fn extra_channels(&self) -> i64 {
        let channels = |signal: &SignalConfig| match signal {
            SignalConfig::Video { channels } => channels + 1,
            _ => 0,
        };
        self.signals.values().map(channels).sum()
    }

    /// What couples the frames of a video whatever a [`FrameMask`](crate::FrameMask) says: beside a
    /// clip images are then not independent of it. `None` where nothing does.
    pub fn coupling(&self) -> Option<String> {
        match self.norm {
            NormKind::Rms => None,
            NormKind::Group { groups } => Some(format!(
                "model.norm = {{ kind = \"group\", groups = {groups} }}, whose statistics run over all frames"
            )),
        }
    }

    /// Height and width must divide by this: 2 for each level but the last.
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
