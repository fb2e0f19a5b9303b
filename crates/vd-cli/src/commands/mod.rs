//! The commands.

mod bench;
mod convert;
mod data;
mod doctor;
mod drawing;
mod encode;
mod formats;
mod inspect;
mod memory;
mod numbers;
mod plan;
mod sample;
mod train;
mod video;

use anyhow::{Result, ensure};
use indicatif::MultiProgress;
use vd_unet3d::UNet3dConfig;

pub(crate) use plan::Gpu;

use crate::args::{Command, FrameSize};
use crate::output::{Outcome, plural};

/// Executes the command line.
pub(crate) fn run(command: Command, bars: &MultiProgress) -> Result<Outcome> {
    match command {
        Command::Train(args) => train::run(&args, bars),
        Command::Sample(args) => sample::run(&args, bars),
        Command::Extend(args) => video::extend(&args, bars),
        Command::Interpolate(args) => video::interpolate(&args, bars),
        Command::Inpaint(args) => video::inpaint(&args, bars),
        Command::Upscale(args) => video::upscale(&args, bars),
        Command::Encode(args) => encode::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Data(args) => data::run(args, bars),
        Command::Doctor => doctor::run(),
    }
}

/// Refuses frames that the network cannot halve as often as its levels require.
fn check_size(config: &UNet3dConfig, size: FrameSize) -> Result<()> {
    let multiple = config.spatial_multiple();
    ensure!(
        size.h % multiple == 0 && size.w % multiple == 0,
        "--size {size}: this network halves frames {}, so both sides must be divisible by {multiple}",
        plural(config.dim_mults.len() - 1, "time")
    );
    Ok(())
}
