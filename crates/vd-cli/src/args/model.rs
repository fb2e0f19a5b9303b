//! Flags of the commands that have to do with a model.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use vd_data::{ClipFormat, Dtype};
use vd_tensor_ops::kernels::Precision;
use vd_text_cond::Text;
use vd_torch::Autocast;
use vd_unet3d::Preset;

use super::draw::on_off;
use super::values::{MOST_FRAMES, format, positive, prompt, setting};
use super::{CheckpointArg, Compute, DrawArgs, FrameSize, PeerVersion, WeightsName};

#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// The run's config, a TOML file
    #[arg(value_name = "CONFIG.toml")]
    pub(crate) config: PathBuf,
    /// Override a setting of the config; may be repeated
    #[arg(long = "set", value_name = "section.key=value", value_parser = setting)]
    pub(crate) set: Vec<String>,
    /// Resume from the newest complete checkpoint in train.out
    #[arg(long)]
    pub(crate) resume: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SampleArgs {
    /// A step's folder, a run's folder (its newest step), or what `vd convert` wrote
    #[arg(value_name = "CHECKPOINT", required_unless_present = "list")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Output: one file (several clips side by side), or a folder with one file per clip
    #[arg(short, long, value_name = "FILE.gif|DIR", required_unless_present = "list")]
    pub(crate) out: Option<PathBuf>,
    /// gif, webp, mp4, png, npy, safetensors; comma-separated [default: from --out, else gif]
    #[arg(long, value_name = "FORMATS", value_delimiter = ',', value_parser = format)]
    pub(crate) format: Vec<ClipFormat>,
    /// Type of npy and safetensors of a model of arrays: f64, f16, u8, i16, ... [default: f32]
    #[arg(long, value_name = "DTYPE", value_parser = str::parse::<Dtype>)]
    pub(crate) dtype: Option<Dtype>,
    /// Additional file with all clips and their captions: .gif, .webp or .mp4
    #[arg(long, value_name = "FILE.gif")]
    pub(crate) grid: Option<PathBuf>,
    /// Only list the names that --sampler, --spacing and --guidance take
    #[arg(long, conflicts_with_all = ["checkpoint", "out", "grid"])]
    pub(crate) list: bool,
    /// Clips per prompt, line or row; without any of these, clips in total
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) num: u32,
    /// What the clips show; may be repeated. "A :: 2 | B" weights, "A -> B" moves over time
    #[arg(long, value_name = "TEXT", conflicts_with = "cond", value_parser = prompt)]
    pub(crate) prompt: Vec<Text>,
    /// A file of prompts: one per line (.txt), or JSON Lines with settings (.jsonl)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "cond"])]
    pub(crate) prompts: Option<PathBuf>,
    /// Embeddings instead of prompts, one per row (.safetensors or .npy, f32)
    #[arg(long, value_name = "FILE")]
    pub(crate) cond: Option<PathBuf>,
    /// Frames of each clip [default: the checkpoint's]
    #[arg(long, value_name = "F")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=MOST_FRAMES))]
    pub(crate) frames: Option<u32>,
    /// Frame size in pixels, H or HxW [default: the checkpoint's]
    #[arg(long, value_name = "H[xW]")]
    pub(crate) size: Option<FrameSize>,
    /// Frames per second of the clips [default: the checkpoint's if known, else 10]
    #[arg(long, value_name = "RATE", value_parser = positive)]
    pub(crate) fps: Option<f64>,
    /// Clips drawn at once (batch size)
    #[arg(long, value_name = "B", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) batch: u32,
    #[command(flatten)]
    pub(crate) draw: DrawArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// A checkpoint of the package's Trainer (model-N.pt), or a bare state dict
    #[arg(value_name = "MODEL.pt")]
    pub(crate) model: PathBuf,
    /// The release of video-diffusion-pytorch that wrote the file
    #[arg(long, value_enum, value_name = "VERSION")]
    pub(crate) version: PeerVersion,
    /// The folder to write; it must be new or empty
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Take only these weights [default: all in the file; --check and sampling prefer ema]
    #[arg(long, value_enum, value_name = "WHICH")]
    pub(crate) weights: Option<WeightsName>,
    /// Groups of the group norm in files of 0.5 and 0.6, not inferable from shapes [default: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) resnet_groups: Option<u16>,
    /// Steps of the cosine schedule if the file holds no betas [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) timesteps: Option<u32>,
    /// Default number of frames for `vd sample` [default: those of --check's x, else 16]
    #[arg(long, value_name = "F")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=MOST_FRAMES))]
    pub(crate) frames: Option<u32>,
    /// Default frame size for `vd sample` [default: that of --check's x, else 64]
    #[arg(long, value_name = "H[xW]")]
    pub(crate) size: Option<FrameSize>,
    /// Compare with recorded outputs of the package's network
    #[arg(long, value_name = "IO.safetensors")]
    pub(crate) check: Option<PathBuf>,
    /// Largest relative L2 error that passes the check
    #[arg(long, value_name = "E", default_value = "1e-5", value_parser = positive)]
    pub(crate) tolerance: f64,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A step's folder, a run's folder (its newest step), or what `vd convert` wrote
    #[arg(value_name = "CHECKPOINT", required_unless_present = "preset")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Show this preset's network instead of a checkpoint's
    #[arg(long, value_name = "NAME", conflicts_with = "checkpoint")]
    pub(crate) preset: Option<Preset>,
    /// Base channels, scaled by the preset's multipliers [default: the preset's]
    #[arg(long, value_name = "N", requires = "preset")]
    #[arg(value_parser = clap::value_parser!(i64).range(4..=65_536))]
    pub(crate) dim: Option<i64>,
    /// Clips in a batch
    #[arg(long, value_name = "B", default_value_t = 1, requires = "preset")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) batch: u32,
    /// Frames of each clip [default: the preset's]
    #[arg(long, value_name = "F", requires = "preset")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=MOST_FRAMES))]
    pub(crate) frames: Option<u32>,
    /// Frame size in pixels, H or HxW [default: the preset's]
    #[arg(long, value_name = "H[xW]", requires = "preset")]
    pub(crate) size: Option<FrameSize>,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) checkpoint: CheckpointArg,
    /// Clips in a batch
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) batch: u32,
    /// Frames of each clip
    #[arg(long, value_name = "F")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=MOST_FRAMES))]
    pub(crate) frames: u32,
    /// Frame size in pixels, H or HxW
    #[arg(long, value_name = "H[xW]")]
    pub(crate) size: FrameSize,
    /// Time forward and backward together instead of only forward
    #[arg(long)]
    pub(crate) train: bool,
    /// Recompute activations of the N outermost levels in the backward
    #[arg(long, value_name = "N", default_value_t = 0, requires = "train")]
    pub(crate) recompute: usize,
    /// Arithmetic on CPUs: f32, bf16, exact, reference (libtorch)
    #[arg(long, value_name = "HOW", default_value = "f32")]
    pub(crate) precision: Precision,
    /// Precision of products and convolutions: off (f32), bf16, fp16
    #[arg(long, value_name = "DTYPE", default_value = "off")]
    pub(crate) autocast: Autocast,
    /// Record the network once as a CUDA graph and replay it: on, off
    #[arg(long, value_name = "WHETHER", default_value = "on", value_parser = on_off)]
    #[arg(action = ArgAction::Set)]
    pub(crate) graphs: bool,
    /// Timed passes, after two warm-up passes
    #[arg(long, value_name = "N", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) iters: u32,
    #[command(flatten)]
    pub(crate) compute: Compute,
}
