//! The command line.

mod data;
mod draw;
mod encode;
mod model;
mod plan;
mod tables;
mod texts;
mod texts_data;
mod texts_video;
mod values;
mod video;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use tch::Device;
use vd_tensor_ops::kernels::cpu::Isa;
use vd_torch::DeviceChoice;

use crate::model::warn_without_kernels;

pub(crate) use data::{
    DataArgs, DataCommand, GeneratorName, InspectDataArgs, PrepareArgs, PreviewArgs, StatsArgs,
    StoredType, SynthArgs, VerifyArgs,
};
pub(crate) use draw::DrawArgs;
pub(crate) use encode::{EncodeArgs, PoolingName, PrecisionName};
pub(crate) use model::{BenchArgs, ConvertArgs, InspectArgs, SampleArgs, TrainArgs};
pub(crate) use plan::PlanArgs;
pub(crate) use tables::PlanArg;
pub(crate) use values::{
    DownName, FrameSize, LARGEST_SCALE, MOST_FRAMES, NoiseName, PeerVersion, PixelBox, WeightsName,
};
pub(crate) use video::{ExtendArgs, InpaintArgs, InterpolateArgs, UpscaleArgs, VideoArgs};

/// Train, sample and convert video diffusion models
#[derive(Debug, Parser)]
#[command(name = "vd", version, arg_required_else_help = true)]
#[command(after_help = texts::VD)]
pub(crate) struct Cli {
    /// Print one JSON object on stdout and nothing else there
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train a model from a TOML config
    #[command(after_help = texts::TRAIN)]
    Train(TrainArgs),
    /// Estimate a run's time and memory, and the largest batch that fits
    #[command(after_help = texts::PLAN)]
    Plan(PlanArgs),
    /// Sample clips from a checkpoint
    #[command(after_help = texts::SAMPLE, allow_negative_numbers = true)]
    #[command(override_usage = texts::SAMPLE_USAGE)]
    Sample(SampleArgs),
    /// Continue a video, to any length
    #[command(after_help = texts_video::EXTEND, allow_negative_numbers = true)]
    Extend(ExtendArgs),
    /// Sample new frames between those of a video
    #[command(after_help = texts_video::INTERPOLATE, allow_negative_numbers = true)]
    Interpolate(InterpolateArgs),
    /// Replace a part of a video with newly sampled content
    #[command(after_help = texts_video::INPAINT, allow_negative_numbers = true)]
    #[command(override_usage = "vd inpaint [OPTIONS] --out <FILE> \
                                <--mask FILE|--box Y,X,H,W|--missing> <CHECKPOINT> <VIDEO>")]
    Inpaint(InpaintArgs),
    /// Increase a video's resolution and frame rate
    #[command(after_help = texts_video::UPSCALE, allow_negative_numbers = true)]
    Upscale(UpscaleArgs),
    /// Turn prompts into embeddings with a language model from a directory
    #[command(after_help = texts::ENCODE)]
    Encode(EncodeArgs),
    /// Convert a checkpoint of video-diffusion-pytorch (Python) for use with vd
    #[command(after_help = texts::CONVERT, allow_negative_numbers = true)]
    Convert(ConvertArgs),
    /// Show what a checkpoint contains
    #[command(after_help = texts::INSPECT)]
    Inspect(InspectArgs),
    /// Measure the speed of a checkpoint's network
    #[command(after_help = texts::BENCH, allow_negative_numbers = true)]
    Bench(BenchArgs),
    /// Create, prepare and inspect training data
    #[command(after_help = texts_data::DATA, arg_required_else_help = true)]
    Data(DataArgs),
    /// Show what vd finds on this machine
    #[command(after_help = texts::DOCTOR)]
    Doctor,
}

/// Where to compute.
#[derive(Debug, Args)]
pub(crate) struct Compute {
    /// auto (CUDA if available), cpu, or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// CPU threads [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

impl Compute {
    /// Sets the threads and finds the device.
    pub(crate) fn start(&self) -> Result<Device> {
        let device = self.device.resolve()?;
        Isa::named()?;
        warn_without_kernels(device);
        if let Some(n) = self.threads {
            vd_torch::set_threads(usize::from(n));
        }
        Ok(device)
    }
}

/// The checkpoint that a command opens.
#[derive(Debug, Args)]
pub(crate) struct CheckpointArg {
    /// A step's folder, a run's folder (its newest step), or what `vd convert` wrote
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) path: PathBuf,
}
