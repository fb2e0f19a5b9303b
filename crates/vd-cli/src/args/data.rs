//! Flags of `vd data`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use vd_data::Axes;

use super::values::MOST_FRAMES;
use super::{FrameSize, texts};

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
    /// Captions: `beside` clips, `folders`, or a .csv or .jsonl file
    #[arg(long, value_name = "FROM", default_value = "beside")]
    pub(crate) captions: String,
    /// Which axis of an array is what [default: fhw of 3 axes, fhwc of 4]
    #[arg(long, value_name = "AXES", value_parser = str::parse::<Axes>)]
    pub(crate) axes: Option<Axes>,
    /// The array of an .npz or safetensors file that is looked at [default: all]
    #[arg(long, value_name = "NAME")]
    pub(crate) member: Option<String>,
    /// The number in arrays that stands where none was measured
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub(crate) invalid: Option<f64>,
}
