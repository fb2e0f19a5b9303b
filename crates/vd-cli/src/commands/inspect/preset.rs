//! Describes a preset and its cost, without building it.

use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;
use tch::Kind;
use vd_unet3d::flops::{self, Shape};
use vd_unet3d::ops::Params;
use vd_unet3d::{Preset, UNet3d, UNet3dConfig};

use super::{Module, describe_modules, modules};
use crate::args::{FrameSize, InspectArgs};
use crate::commands::check_size;
use crate::output::{Outcome, bytes, count, plural};

/// Tokens per text, for networks that use them: a sentence.
const TOKENS: u64 = 32;
/// Bytes of a number.
const F32: u64 = 4;

#[derive(Debug, Serialize)]
struct Report {
    preset: &'static str,
    batch: u32,
    frames: u32,
    size: [i64; 2],
    /// 0 for networks that use none.
    tokens: u64,
    /// Trainable values.
    parameters: u64,
    modules: Vec<Module>,
    flops: Flops,
    memory: Memory,
    config: UNet3dConfig,
}

/// Floating-point operations of one batch.
#[derive(Debug, Serialize)]
struct Flops {
    forward: u64,
    /// Forward and backward.
    training: u64,
}

/// Bytes of everything that grows with the parameters.
#[derive(Debug, Serialize)]
struct Memory {
    weights: u64,
    gradients: u64,
    /// Two moments.
    optimizer: u64,
    ema: u64,
    all: u64,
}

pub(super) fn run(preset: Preset, args: &InspectArgs) -> Result<Outcome> {
    let mut config = preset.config();
    config.dim = args.dim.unwrap_or(config.dim);
    let [frames, h, w] = preset.clip();
    let size = args.size.unwrap_or(FrameSize { h, w });
    check_size(&config, size)?;
    let mut params = Params::sketch(Kind::Float);
    let _network = UNet3d::new(&config, &mut params.root())?;
    let tokens = if config.tokens.is_some() { TOKENS } else { 0 };
    let frames = args.frames.unwrap_or(frames as u32);
    let [h, w] = [size.h, size.w].map(i64::unsigned_abs);
    let shape = Shape { b: args.batch.into(), f: frames.into(), h, w, tokens };
    let forward = flops::forward(&config, shape);
    let parameters = params.count() as u64;
    let each = parameters * F32;
    let report = Report {
        preset: preset.name(),
        batch: args.batch,
        frames,
        size: [size.h, size.w],
        tokens,
        parameters,
        modules: modules(&params),
        flops: Flops { forward, training: 3 * forward },
        memory: Memory {
            weights: each,
            gradients: each,
            optimizer: 2 * each,
            ema: each,
            all: 5 * each,
        },
        config,
    };
    let text = describe(&report)?;
    Outcome::new(&report, text)
}

/// `[model]` of a run, with its subtables.
fn config_toml(config: &UNet3dConfig) -> Result<String> {
    #[derive(Serialize)]
    struct Run<'a> {
        model: &'a UNet3dConfig,
    }
    Ok(toml::to_string(&Run { model: config })?)
}

fn describe(report: &Report) -> Result<String> {
    let mut out = String::new();
    let [h, w] = report.size;
    writeln!(out, "{}", report.preset)?;
    let clips = plural(report.batch as usize, "clip");
    writeln!(out, "  batch       {clips} of {} frames of {h}x{w}", report.frames)?;
    writeln!(out, "  parameters  {}", count(report.parameters))?;
    describe_modules(&mut out, &report.modules, report.parameters)?;
    let tera = |n: u64| n as f64 / 1e12;
    let Flops { forward, training } = report.flops;
    writeln!(
        out,
        "  flops       {:.3} T forward, {:.3} T forward and backward",
        tera(forward),
        tera(training)
    )?;
    let Memory { weights, gradients, optimizer, ema, all } = report.memory;
    let [weights, gradients, optimizer, ema, all] =
        [weights, gradients, optimizer, ema, all].map(bytes);
    writeln!(
        out,
        "  memory      {all}: weights {weights}, gradients {gradients}, optimiser {optimizer}, \
         moving average {ema}"
    )?;
    writeln!(out, "  config")?;
    for line in config_toml(&report.config)?.lines().filter(|line| !line.trim().is_empty()) {
        writeln!(out, "    {line}")?;
    }
    Ok(out)
}
