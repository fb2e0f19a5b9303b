//! What a network is made of, as plain data.

mod cond;
mod written;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vd_tensor_ops::layers::NormKind;

pub use cond::{Axes, SignalConfig, TokensConfig};

use crate::{Error, Result};

/// More parameters than any machine holds: beyond it a size is a slip of the pen.
const MOST_PARAMETERS: f64 = 1e11;

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
    /// Width of the conditioning embedding; an unconditional network where not given.
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
    /// Along which axes a part of the channels is taken from the neighbour before each attention.
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

    /// The number of parameters but for norms and biases.
    fn parameters_about(&self) -> f64 {
        let float = |n: i64| n as f64;
        let emb = 4.0 * float(self.dim) + float(self.cond_dim.unwrap_or(0));
        let per_channel = 4.0 * float(self.attn_heads) * float(self.attn_dim_head + 32);
        // Two convolutions of 3 x 3, the scales and shifts, and the projection beside them.
        let block = |a: f64, b: f64| 9.0 * (a + b) * b + 2.0 * emb * b + a * b;
        let level = |(a, b): (i64, i64)| {
            let (a, b) = (float(a), float(b));
            let down = block(a, b) + block(b, b) + 16.0 * b * b;
            let up = block(2.0 * b, a) + block(a, a) + 16.0 * a * a;
            down + up + per_channel * (a + b)
        };
        let levels = self.level_channels();
        let last = levels.last().map_or(0.0, |(_, b)| float(*b));
        let area = float(self.init_kernel_size).powi(2);
        let ends = area * float(self.channels) * float(self.first_channels())
            + float(self.dim) * float(self.out_channels())
            + 5.0 * emb * float(self.dim);
        let middle = 2.0 * block(last, last) + per_channel * last;
        ends + middle + levels.into_iter().map(level).sum::<f64>()
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first field that is out of its range, with what it may be.
    pub fn validate(&self) -> Result<()> {
        let refuse = |field, expected: &str, got: String| {
            Err(Error::Config { field, expected: expected.to_owned(), got })
        };
        // The bounds from above keep every product of sizes far from overflow.
        if !(4..=65_536).contains(&self.dim) || self.dim % 2 != 0 {
            return refuse("dim", "an even number from 4 to 65536", self.dim.to_string());
        }
        let ranges = [
            ("init_dim", self.first_channels(), 65_536),
            ("channels", self.channels, 65_536),
            ("out_dim", self.out_channels(), 65_536),
            ("cond_dim", self.cond_dim.unwrap_or(1), 1_048_576),
            ("attn_heads", self.attn_heads, 1024),
            ("attn_dim_head", self.attn_dim_head, 4096),
        ];
        if let Some((field, n, most)) = ranges.into_iter().find(|(_, n, most)| n < &1 || n > most) {
            return refuse(field, &format!("a number from 1 to {most}"), n.to_string());
        }
        if !(1..=255).contains(&self.init_kernel_size) || self.init_kernel_size % 2 == 0 {
            let got = self.init_kernel_size.to_string();
            return refuse("init_kernel_size", "an odd number from 1 to 255", got);
        }
        let mults = &self.dim_mults;
        if mults.is_empty() || mults.len() > 16 || mults.iter().any(|m| !(1..=1024).contains(m)) {
            let expected = "1 to 16 numbers, each from 1 to 1024";
            return refuse("dim_mults", expected, format!("{mults:?}"));
        }
        let parameters = self.parameters_about();
        if parameters > MOST_PARAMETERS {
            let expected = format!("sizes that make at most {MOST_PARAMETERS:e} parameters");
            let got = format!("about {parameters:.0e} (dim {}, dim_mults {mults:?})", self.dim);
            return refuse("dim", &expected, got);
        }
        if self.attn_dim_head < 32 && self.attn_dim_head % 2 != 0 {
            let expected = "an even number where below 32 (rotary positions turn pairs)";
            return refuse("attn_dim_head", expected, self.attn_dim_head.to_string());
        }
        if let NormKind::Group { groups } = self.norm {
            let all = self.level_channels().into_iter().flat_map(|(a, b)| [a, b]);
            let odd = all.chain([self.dim]).find(|c| groups < 1 || c % groups != 0);
            if let Some(c) = odd {
                let got = format!("{groups} groups for {c} channels");
                return refuse("norm", "groups that divide the channels of every level", got);
            }
        }
        Ok(())
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
    fn every_field_out_of_range_is_named() {
        let base = UNet3dConfig::default;
        let cases = [
            ("dim", UNet3dConfig { dim: 7, ..base() }),
            ("dim_mults", UNet3dConfig { dim_mults: vec![], ..base() }),
            ("dim_mults", UNet3dConfig { dim_mults: vec![1, 0], ..base() }),
            ("channels", UNet3dConfig { channels: 0, ..base() }),
            ("init_kernel_size", UNet3dConfig { init_kernel_size: 4, ..base() }),
            ("attn_dim_head", UNet3dConfig { attn_dim_head: 5, ..base() }),
            ("cond_dim", UNet3dConfig { cond_dim: Some(0), ..base() }),
            ("norm", UNet3dConfig { norm: NormKind::Group { groups: 7 }, ..base() }),
            ("dim", UNet3dConfig { dim: i64::MAX - 1, ..base() }),
            ("dim", UNet3dConfig { dim: 65_536, dim_mults: vec![1024; 16], ..base() }),
            ("dim_mults", UNet3dConfig { dim_mults: vec![i64::MAX], ..base() }),
            ("init_dim", UNet3dConfig { init_dim: Some(i64::MAX), ..base() }),
            ("init_kernel_size", UNet3dConfig { init_kernel_size: 257, ..base() }),
            ("channels", UNet3dConfig { channels: 1 << 40, ..base() }),
            ("out_dim", UNet3dConfig { out_dim: Some(65_537), ..base() }),
            ("cond_dim", UNet3dConfig { cond_dim: Some(1 << 21), ..base() }),
            ("attn_heads", UNet3dConfig { attn_heads: 1025, ..base() }),
            ("attn_dim_head", UNet3dConfig { attn_dim_head: 4098, ..base() }),
        ];
        for (field, config) in cases {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.contains(&format!("`model.{field}`")), "{message}");
        }
        base().validate().unwrap();
        UNet3dConfig { dim: 1024, ..base() }.validate().unwrap();
    }
}
