//! Flags of the commands that take a video and draw what is not in it.

use std::path::PathBuf;

use clap::{ArgGroup, Args};
use vd_data::{ClipFormat, Dtype};
use vd_text_cond::Text;

use super::tables::plan;
use super::values::{MOST_FRAMES, boxed, format, positive, prompt, weight};
use super::{CheckpointArg, DownName, DrawArgs, FrameSize, PixelBox, PlanArg};

/// What is drawn from, and what is known.
#[derive(Debug, Args)]
pub(crate) struct VideoArgs {
    #[command(flatten)]
    pub(crate) checkpoint: CheckpointArg,
    /// The video: GIF, APNG, WebP, MP4 or similar, a folder of frames, or an array
    #[arg(value_name = "VIDEO")]
    pub(crate) video: PathBuf,
    /// Output: a file, or a folder of PNG frames, which keep every colour
    #[arg(short, long, value_name = "FILE.gif|DIR")]
    pub(crate) out: PathBuf,
    /// gif, webp, mp4, png, npy, safetensors; comma-separated [default: from --out, else png]
    #[arg(long, value_name = "FORMATS", value_delimiter = ',', value_parser = format)]
    pub(crate) format: Vec<ClipFormat>,
    /// Type of npy and safetensors of a model of arrays: f64, f16, u8, i16, ... [default: f32]
    #[arg(long, value_name = "DTYPE", value_parser = str::parse::<Dtype>)]
    pub(crate) dtype: Option<Dtype>,
    /// What the video shows; "A -> B" moves from A at its first frame to B at its last
    #[arg(long, value_name = "TEXT", conflicts_with = "cond", value_parser = prompt)]
    pub(crate) prompt: Option<Text>,
    /// An embedding instead of a prompt, one row (.safetensors or .npy, f32)
    #[arg(long, value_name = "FILE")]
    pub(crate) cond: Option<PathBuf>,
    /// Weight of reconstruction guidance [default: 2, with --no-replace 1; see below]
    #[arg(long, value_name = "W", value_parser = weight)]
    pub(crate) weight: Option<f64>,
    /// Compute its gradient only every K-th step
    #[arg(long, value_name = "K", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) every: u32,
    /// Only guide known pixels instead of replacing them; whole known frames are still replaced
    #[arg(long)]
    pub(crate) no_replace: bool,
    /// Frame size that the model draws, H or HxW [default: the checkpoint's]
    #[arg(long, value_name = "H[xW]")]
    pub(crate) size: Option<FrameSize>,
    /// Frames that the model draws at once [default: the checkpoint's]
    #[arg(long, value_name = "F")]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=MOST_FRAMES))]
    pub(crate) window: Option<u32>,
    /// How a long video is split into windows: autoregressive, sliding, hierarchical, or a table
    #[arg(long, value_name = "NAME|TABLE", value_parser = plan)]
    pub(crate) plan: Option<PlanArg>,
    /// Frames per second of the result [default: the video's (10 for a folder of frames), times K]
    #[arg(long, value_name = "RATE", value_parser = positive)]
    pub(crate) fps: Option<f64>,
    #[command(flatten)]
    pub(crate) draw: DrawArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExtendArgs {
    /// Frames of the result, the video's own included [default: what one window adds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub(crate) frames: Option<u32>,
    #[command(flatten)]
    pub(crate) video: VideoArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InterpolateArgs {
    /// Factor of the frame rate: K - 1 frames are drawn between any two
    #[arg(long, value_name = "K", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub(crate) factor: u32,
    #[command(flatten)]
    pub(crate) video: VideoArgs,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["mask", "area", "missing"]).required(true))]
pub(crate) struct InpaintArgs {
    /// Draw where this mask is white (128 or brighter): one picture, or as many as frames
    #[arg(long, value_name = "FILE")]
    pub(crate) mask: Option<PathBuf>,
    /// Draw this box: H rows of W pixels, from row Y and column X
    #[arg(long = "box", value_name = "Y,X,H,W", allow_hyphen_values = true, value_parser = boxed)]
    pub(crate) area: Option<PixelBox>,
    /// Draw the numbers that are missing from an array (NaN, or data.invalid)
    #[arg(long)]
    pub(crate) missing: bool,
    #[command(flatten)]
    pub(crate) video: VideoArgs,
}

#[derive(Debug, Args)]
pub(crate) struct UpscaleArgs {
    /// Factor of the frame rate; 1 keeps it
    #[arg(long, value_name = "K", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) time: u32,
    /// Assumed downscaling from the large video to the small one
    #[arg(long, value_enum, value_name = "HOW", default_value = "area")]
    pub(crate) down: DownName,
    #[command(flatten)]
    pub(crate) video: VideoArgs,
}
