//! What a network is made of, as plain data.

mod cond;
mod validate;
mod written;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vd_tensor_ops::layers::NormKind;

pub use cond::{Axes, SignalConfig, TokensConfig};

/// A known graph, which a config starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Preset {
    /// The graph of video-diffusion-pytorch 0.7: RMS norm per position.
    #[default]
    #[serde(rename = "video-diffusion-pytorch-0.7")]
    VideoDiffusionPytorch0_7,
    /// The graph of video-diffusion-pytorch 0.6: group norm over all frames.
    #[serde(rename = "video-diffusion-pytorch-0.6")]
    VideoDiffusionPytorch0_6,
    /// The graph of video-diffusion-pytorch 0.5.2 and 0.5.3: group norm, and the long skip taken
    /// before the first temporal attention.
    #[serde(rename = "video-diffusion-pytorch-0.5")]
    VideoDiffusionPytorch0_5,
}

impl Preset {
    /// The config of the preset.
    pub fn config(self) -> UNet3dConfig {
        match self {
            Preset::VideoDiffusionPytorch0_7 => UNet3dConfig::video_diffusion_pytorch_0_7(),
            Preset::VideoDiffusionPytorch0_6 => UNet3dConfig::video_diffusion_pytorch_0_6(),
            Preset::VideoDiffusionPytorch0_5 => UNet3dConfig::video_diffusion_pytorch_0_5(),
        }
    }
}

/// What a [`UNet3d`](crate::UNet3d) is made of.
///
/// In a file the key `preset` names the graph that the other keys change; it is resolved at
/// reading, and what is written has every key that matters and no preset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "written::Written")]
pub struct UNet3dConfig {
    /// Channels that `dim_mults` multiplies; a quarter of the width of the time embedding.
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
    /// Heads of every attention.
    pub attn_heads: i64,
    /// Features of each head of the temporal attentions; those over space have 32.
    pub attn_dim_head: i64,
    /// Whether each level has linear attention over space.
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
}

fn is_false(on: &bool) -> bool {
    !on
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
        }
    }

    /// The defaults of video-diffusion-pytorch 0.6, with dim = 64: a group norm of 8 groups.
    pub fn video_diffusion_pytorch_0_6() -> Self {
        let norm = NormKind::Group { groups: 8 };
        UNet3dConfig { norm, ..Self::video_diffusion_pytorch_0_7() }
    }

    /// The defaults of video-diffusion-pytorch 0.5.2 and 0.5.3, with dim = 64.
    pub fn video_diffusion_pytorch_0_5() -> Self {
        UNet3dConfig { skip_before_temporal: true, ..Self::video_diffusion_pytorch_0_6() }
    }

    /// Channels after the first convolution.
    pub fn first_channels(&self) -> i64 {
        self.init_dim.unwrap_or(self.dim)
    }

    /// Channels of the answer.
    pub fn out_channels(&self) -> i64 {
        self.out_dim.unwrap_or(self.channels)
    }

    /// Width of the conditioning embedding that the residual blocks see, if there is one.
    pub fn pooled_width(&self) -> Option<i64> {
        let pool = || self.tokens.as_ref().filter(|tokens| tokens.pool).map(|tokens| tokens.dim);
        self.cond_dim.or_else(pool)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_preset_is_changed_by_the_other_keys_and_written_out_in_full() {
        let text = "preset = \"video-diffusion-pytorch-0.5\"\ndim = 32\ndim_mults = [1, 2]\n\
                    norm = { kind = \"group\", groups = 4 }";
        let config: UNet3dConfig = toml::from_str(text).unwrap();
        assert!(config.skip_before_temporal && config.dim == 32);
        assert_eq!(config.norm, NormKind::Group { groups: 4 });
        let written = toml::to_string(&config).unwrap();
        assert!(!written.contains("preset"), "{written}");
        assert_eq!(toml::from_str::<UNet3dConfig>(&written).unwrap(), config);
    }

    #[test]
    fn unknown_keys_are_refused_with_the_known_ones() {
        let message = toml::from_str::<UNet3dConfig>("dims = 3").unwrap_err().to_string();
        assert!(message.contains("dims") && message.contains("dim_mults"), "{message}");
    }

    #[test]
    fn every_option_is_read_as_it_was_written() {
        let text = "token_shift = [\"space\", \"time\"]\nspatial_bias = true\n\
                    [tokens]\ndim = 12\ncross = [\"time\"]\nmemory = 6\npool = true\n\
                    [signals.weather]\nkind = \"class\"\nclasses = [\"sun\", \"rain\"]\n\
                    [signals.speed]\nkind = \"scalar\"\nmean = 3.5\nstd = 0.25\n\
                    [signals.plain]\nkind = \"scalar\"\n\
                    [signals.path]\nkind = \"series\"\nwidth = 7\n\
                    [signals.low]\nkind = \"video\"\nchannels = 3\n";
        let config: UNet3dConfig = toml::from_str(text).unwrap();
        config.validate().unwrap();
        assert_eq!(config.signals["plain"], SignalConfig::Scalar { mean: 0.0, std: 1.0 });
        assert_eq!((config.pooled_width(), config.extra_channels()), (Some(12), 4));
        let written = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<UNet3dConfig>(&written).unwrap(), config);
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<UNet3dConfig>(&json).unwrap(), config);
        for (wrong, known) in [
            ("[tokens]\ndim = 3\nmemori = 4", "memory"),
            ("[signals.a]\nkind = \"series\"\nwith = 3", "width"),
            ("[signals.a]\nkind = \"colour\"", "scalar"),
            ("token_shift = [\"up\"]", "space"),
        ] {
            let message = toml::from_str::<UNet3dConfig>(wrong).unwrap_err().to_string();
            assert!(message.contains(known), "{message}");
        }
    }
}
