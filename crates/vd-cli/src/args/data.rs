//! Flags of `vd data`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use vd_data::{ArrayOptions, Axes};

use super::values::{MOST_FRAMES, positive, size_in_bytes};
use super::{FrameSize, texts, texts_data};

#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    pub(crate) command: DataCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Write synthetic clips with captions: NAME.gif and NAME.txt
    #[command(after_help = texts::SYNTH, allow_negative_numbers = true)]
    Synth(SynthArgs),
    /// Show what a folder of videos contains, before training on it
    #[command(after_help = texts::INSPECT_DATA)]
    Inspect(InspectDataArgs),
    /// Decode a folder of videos or arrays once, so that training need not decode
    #[command(after_help = texts_data::PREPARE, allow_negative_numbers = true)]
    Prepare(PrepareArgs),
    /// Draw a contact sheet of some clips
    #[command(after_help = texts_data::PREVIEW)]
    Preview(PreviewArgs),
    /// Show statistics of lengths, rates, sizes, captions and values
    #[command(after_help = texts_data::STATS)]
    Stats(StatsArgs),
    /// Check prepared clips against their checksums
    #[command(after_help = texts_data::VERIFY)]
    Verify(VerifyArgs),
}

/// What is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GeneratorName {
    /// Rockets that burst in one or two colours, named by the caption
    Fireworks,
    /// Moving digits that bounce off the edges
    Digits,
}

#[derive(Debug, Args)]
pub(crate) struct SynthArgs {
    /// What to generate
    #[arg(value_enum, value_name = "WHAT")]
    pub(crate) what: GeneratorName,
    /// Number of clips to write
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) num: u32,
    /// Frames of each clip
    #[arg(long, value_name = "F")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=MOST_FRAMES))]
    pub(crate) frames: u32,
    /// Frame size in pixels, H or HxW
    #[arg(long, value_name = "H[xW]")]
    pub(crate) size: FrameSize,
    /// The folder to write; it must be new or empty
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Seed of the clips: the same seed gives the same clips
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct InspectDataArgs {
    /// The folder, subfolders included
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Captions: `beside`, `folders`, or a .csv or .jsonl file
    #[arg(long, value_name = "FROM", default_value = "beside")]
    pub(crate) captions: String,
    #[command(flatten)]
    pub(crate) arrays: ArrayArgs,
}

/// How arrays are read.
#[derive(Debug, Args)]
pub(crate) struct ArrayArgs {
    /// Meaning of an array's axes [default: fhw for 3 axes, fhwc for 4]
    #[arg(long, value_name = "AXES", value_parser = str::parse::<Axes>)]
    axes: Option<Axes>,
    /// Name of the array to take from an .npz or safetensors file [default: all]
    #[arg(long, value_name = "NAME")]
    member: Option<String>,
    /// Value that marks missing data
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub(crate) invalid: Option<f64>,
}

impl ArrayArgs {
    pub(crate) fn options(&self) -> ArrayOptions {
        ArrayOptions { axes: self.axes.clone(), member: self.member.clone() }
    }
}

/// How numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StoredType {
    /// Integers from 0 to 255
    U8,
    /// Half precision
    F16,
    /// Single precision
    F32,
}

#[derive(Debug, Args)]
pub(crate) struct PrepareArgs {
    /// The folder of videos or arrays, subfolders included
    #[arg(value_name = "SRC")]
    pub(crate) source: PathBuf,
    /// The folder to write; it must be new, empty, or prepared with the same settings
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Captions: `beside`, `folders`, or a .csv or .jsonl file
    #[arg(long, value_name = "FROM", default_value = "beside")]
    pub(crate) captions: String,
    /// Frame size in pixels, H or HxW [default: unchanged]
    #[arg(long, value_name = "H[xW]")]
    pub(crate) size: Option<FrameSize>,
    /// Reduce faster videos to this frame rate [default: keep all frames]
    #[arg(long, value_name = "R", value_parser = positive, conflicts_with = "stride")]
    pub(crate) fps: Option<f64>,
    /// Keep every K-th frame
    #[arg(long, value_name = "K", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=MOST_FRAMES))]
    pub(crate) stride: u32,
    /// Keep at most the first F frames of each clip [default: all]
    #[arg(long, value_name = "F", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_frames: Option<u32>,
    /// 1 (grey) or 3 (colour); arrays keep their own
    #[arg(long, value_name = "C", default_value = "3", value_parser = ["1", "3"])]
    pub(crate) channels: String,
    /// Stored type of numbers [default: u8 for bytes, f32 for others]
    #[arg(long, value_name = "TYPE", value_enum)]
    pub(crate) dtype: Option<StoredType>,
    #[command(flatten)]
    pub(crate) arrays: ArrayArgs,
    /// Maximum size of a shard in bytes; K, M and G are powers of 1024
    #[arg(long, value_name = "BYTES", default_value = "1G", value_parser = size_in_bytes)]
    pub(crate) shard_size: u64,
    /// Decoding threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) workers: Option<u16>,
    /// Stop when more than N files cannot be prepared [default: never]
    #[arg(long, value_name = "N")]
    pub(crate) max_bad: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct PreviewArgs {
    /// A folder of videos or arrays, or of prepared clips
    #[arg(value_name = "SRC")]
    pub(crate) source: PathBuf,
    /// The PNG file to write
    #[arg(long, short, value_name = "FILE.png")]
    pub(crate) out: PathBuf,
    /// Number of clips to show
    #[arg(long, value_name = "N", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) num: u32,
    /// Frames of each clip, including the first and the last
    #[arg(long, value_name = "F", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) frames: u32,
    /// Captions: `beside`, `folders`, or a .csv or .jsonl file
    #[arg(long, value_name = "FROM", default_value = "beside")]
    pub(crate) captions: String,
}

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// A folder of videos or arrays, or of prepared clips
    #[arg(value_name = "SRC")]
    pub(crate) source: PathBuf,
    /// Captions: `beside`, `folders`, or a .csv or .jsonl file
    #[arg(long, value_name = "FROM", default_value = "beside")]
    pub(crate) captions: String,
    /// Clips whose pixels or numbers are sampled
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) sample: u32,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A folder that `vd data prepare` wrote
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}
