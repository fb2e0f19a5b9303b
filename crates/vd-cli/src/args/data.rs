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
    /// Show what a folder of videos holds, before a run is spent on it
    #[command(after_help = texts::INSPECT_DATA)]
    Inspect(InspectDataArgs),
    /// Decode a folder of videos or arrays once, for training that decodes nothing
    #[command(after_help = texts_data::PREPARE, allow_negative_numbers = true)]
    Prepare(PrepareArgs),
    /// Draw a contact sheet of some clips
    #[command(after_help = texts_data::PREVIEW)]
    Preview(PreviewArgs),
    /// Count lengths, rates, sizes, captions and values
    #[command(after_help = texts_data::STATS)]
    Stats(StatsArgs),
    /// Compare prepared clips with their checksums
    #[command(after_help = texts_data::VERIFY)]
    Verify(VerifyArgs),
}

/// What is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GeneratorName {
    /// Rockets that burst in one or two colours, which the caption names
    Fireworks,
    /// Digits that move and bounce off the edges
    Digits,
}

#[derive(Debug, Args)]
pub(crate) struct SynthArgs {
    /// What is drawn
    #[arg(value_enum, value_name = "WHAT")]
    pub(crate) what: GeneratorName,
    /// Clips to write
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) num: u32,
    /// Frames of each clip
    #[arg(long, value_name = "F")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=MOST_FRAMES))]
    pub(crate) frames: u32,
    /// Pixels of each frame, H or HxW
    #[arg(long, value_name = "H[xW]")]
    pub(crate) size: FrameSize,
    /// The folder to write; it must be new or empty
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Names the clips: the same seed draws the same ones
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct InspectDataArgs {
    /// The folder; those below it count too
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
    /// Which axis of an array is what [default: fhw of 3 axes, fhwc of 4]
    #[arg(long, value_name = "AXES", value_parser = str::parse::<Axes>)]
    axes: Option<Axes>,
    /// The array of an .npz or safetensors file that is taken [default: all]
    #[arg(long, value_name = "NAME")]
    member: Option<String>,
    /// The number in arrays that stands where none was measured
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
    /// Whole numbers from 0 to 255
    U8,
    /// Half precision
    F16,
    /// Single precision
    F32,
}

#[derive(Debug, Args)]
pub(crate) struct PrepareArgs {
    /// The folder of videos or arrays; those below it count too
    #[arg(value_name = "SRC")]
    pub(crate) source: PathBuf,
    /// The folder to write; new, empty, or prepared in the same way before
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Captions: `beside`, `folders`, or a .csv or .jsonl file
    #[arg(long, value_name = "FROM", default_value = "beside")]
    pub(crate) captions: String,
    /// Pixels of each frame, H or HxW [default: as they are]
    #[arg(long, value_name = "H[xW]")]
    pub(crate) size: Option<FrameSize>,
    /// Frames a second, of faster videos [default: all]
    #[arg(long, value_name = "R", value_parser = positive, conflicts_with = "stride")]
    pub(crate) fps: Option<f64>,
    /// Every K-th frame is kept
    #[arg(long, value_name = "K", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=MOST_FRAMES))]
    pub(crate) stride: u32,
    /// Frames of each clip at most, the first [default: all]
    #[arg(long, value_name = "F", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_frames: Option<u32>,
    /// 1 (grey) or 3 (colour); arrays have their own
    #[arg(long, value_name = "C", default_value = "3", value_parser = ["1", "3"])]
    pub(crate) channels: String,
    /// How numbers are stored [default: bytes as u8, others as f32]
    #[arg(long, value_name = "TYPE", value_enum)]
    pub(crate) dtype: Option<StoredType>,
    #[command(flatten)]
    pub(crate) arrays: ArrayArgs,
    /// Bytes of a shard at most, with K, M or G of 1024
    #[arg(long, value_name = "BYTES", default_value = "1G", value_parser = size_in_bytes)]
    pub(crate) shard_size: u64,
    /// Threads that decode [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) workers: Option<u16>,
    /// Stop when more files than this cannot be prepared [default: never]
    #[arg(long, value_name = "N")]
    pub(crate) max_bad: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct PreviewArgs {
    /// A folder of videos or arrays, or of prepared clips
    #[arg(value_name = "SRC")]
    pub(crate) source: PathBuf,
    /// The picture to write
    #[arg(long, short, value_name = "FILE.png")]
    pub(crate) out: PathBuf,
    /// Clips to show
    #[arg(long, value_name = "N", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) num: u32,
    /// Frames of each, the first and the last among them
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
    /// Clips whose pixels or numbers are looked at
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) sample: u32,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// A folder that `vd data prepare` wrote
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}
