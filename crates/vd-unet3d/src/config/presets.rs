//! Known architectures.

use serde::{Deserialize, Serialize};
use vd_tensor_ops::layers::NormKind;

use super::UNet3dConfig;

/// A known architecture, from which a config starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Preset {
    /// The architecture of video-diffusion-pytorch 0.7: RMS norm per position.
    #[default]
    #[serde(rename = "video-diffusion-pytorch-0.7")]
    VideoDiffusionPytorch0_7,
    /// The architecture of video-diffusion-pytorch 0.6: group norm over all frames.
    #[serde(rename = "video-diffusion-pytorch-0.6")]
    VideoDiffusionPytorch0_6,
    /// The architecture of video-diffusion-pytorch 0.5.2 and 0.5.3: group norm, and the long skip
    /// taken before the first temporal attention.
    #[serde(rename = "video-diffusion-pytorch-0.5")]
    VideoDiffusionPytorch0_5,
    /// The paper's model for UCF101.
    #[serde(rename = "paper_ucf101")]
    PaperUcf101,
    /// The paper's model for BAIR.
    #[serde(rename = "paper_bair")]
    PaperBair,
    /// The paper's model for Kinetics-600.
    #[serde(rename = "paper_kinetics600")]
    PaperKinetics600,
    /// The paper's small text-to-video model.
    #[serde(rename = "paper_text_small")]
    PaperTextSmall,
    /// The paper's large text-to-video model for 16 frames of 64 x 64.
    #[serde(rename = "paper_text_large_16x64")]
    PaperTextLarge16x64,
    /// The paper's large text-to-video model for 9 frames of 128 x 128.
    #[serde(rename = "paper_text_large_9x128")]
    PaperTextLarge9x128,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Preset; 9] = [
        Preset::VideoDiffusionPytorch0_7,
        Preset::VideoDiffusionPytorch0_6,
        Preset::VideoDiffusionPytorch0_5,
        Preset::PaperUcf101,
        Preset::PaperBair,
        Preset::PaperKinetics600,
        Preset::PaperTextSmall,
        Preset::PaperTextLarge16x64,
        Preset::PaperTextLarge9x128,
    ];

    /// The config of the preset.
    pub fn config(self) -> UNet3dConfig {
        match self {
            Preset::VideoDiffusionPytorch0_7 => UNet3dConfig::video_diffusion_pytorch_0_7(),
            Preset::VideoDiffusionPytorch0_6 => UNet3dConfig::video_diffusion_pytorch_0_6(),
            Preset::VideoDiffusionPytorch0_5 => UNet3dConfig::video_diffusion_pytorch_0_5(),
            Preset::PaperUcf101 => UNet3dConfig::paper_ucf101(),
            Preset::PaperBair => UNet3dConfig::paper_bair(),
            Preset::PaperKinetics600 => UNet3dConfig::paper_kinetics600(),
            Preset::PaperTextSmall => UNet3dConfig::paper_text_small(),
            Preset::PaperTextLarge16x64 => UNet3dConfig::paper_text_large_16x64(),
            Preset::PaperTextLarge9x128 => UNet3dConfig::paper_text_large_9x128(),
        }
    }

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Preset::VideoDiffusionPytorch0_7 => "video-diffusion-pytorch-0.7",
            Preset::VideoDiffusionPytorch0_6 => "video-diffusion-pytorch-0.6",
            Preset::VideoDiffusionPytorch0_5 => "video-diffusion-pytorch-0.5",
            Preset::PaperUcf101 => "paper_ucf101",
            Preset::PaperBair => "paper_bair",
            Preset::PaperKinetics600 => "paper_kinetics600",
            Preset::PaperTextSmall => "paper_text_small",
            Preset::PaperTextLarge16x64 => "paper_text_large_16x64",
            Preset::PaperTextLarge9x128 => "paper_text_large_9x128",
        }
    }

    /// Frames, height and width of the clips that the model was made for; those of
    /// video-diffusion-pytorch were made for any, and have the size of its examples.
    pub fn clip(self) -> [i64; 3] {
        match self {
            Preset::VideoDiffusionPytorch0_7
            | Preset::VideoDiffusionPytorch0_6
            | Preset::VideoDiffusionPytorch0_5 => [10, 32, 32],
            Preset::PaperTextLarge9x128 => [9, 128, 128],
            _ => [16, 64, 64],
        }
    }
}

impl std::str::FromStr for Preset {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Preset::ALL.into_iter().find(|preset| preset.name() == name).ok_or_else(|| {
            let known: Vec<_> = Preset::ALL.iter().map(|preset| preset.name()).collect();
            format!("expected one of {}", known.join(", "))
        })
    }
}

impl UNet3dConfig {
    /// The defaults of video-diffusion-pytorch 0.6, with dim = 64: a group norm of 8 groups.
    pub fn video_diffusion_pytorch_0_6() -> Self {
        let norm = NormKind::Group { groups: 8 };
        UNet3dConfig { norm, ..Self::video_diffusion_pytorch_0_7() }
    }

    /// The defaults of video-diffusion-pytorch 0.5.2 and 0.5.3, with dim = 64.
    pub fn video_diffusion_pytorch_0_5() -> Self {
        UNet3dConfig { skip_before_temporal: true, ..Self::video_diffusion_pytorch_0_6() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_preset_has_one_name_everywhere() {
        for preset in Preset::ALL {
            let name = format!("\"{}\"", preset.name());
            assert_eq!(serde_json::to_string(&preset).unwrap(), name);
            assert_eq!(preset.name().parse::<Preset>(), Ok(preset));
            let config: UNet3dConfig =
                toml::from_str(&format!("preset = {name}\nchannels = 5")).unwrap();
            assert_eq!(config, UNet3dConfig { channels: 5, ..preset.config() });
        }
        assert!("paper".parse::<Preset>().unwrap_err().contains("paper_bair"));
    }
}
