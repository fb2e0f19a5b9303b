//! `vd sample`: clips from a checkpoint.

mod plan;
mod target;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use indicatif::MultiProgress;
use serde::Serialize;
use tch::Tensor;
use vd_tensor_ops::video;
use vd_text_cond::{Progress, generate};

use crate::args::{SampleArgs, SamplerName, ThresholdName};
use crate::model::{Model, device_name};
use crate::output::{Outcome, plural};
use crate::progress;
use plan::Plan;
use target::Target;

#[derive(Debug, Serialize)]
struct Report {
    checkpoint: PathBuf,
    step: Option<u64>,
    weights: String,
    out: PathBuf,
    clips: Vec<Clip>,
    frames: i64,
    size: [i64; 2],
    fps: f64,
    steps: usize,
    sampler: SamplerName,
    cfg_scale: f64,
    threshold: ThresholdName,
    seed: u64,
    device: String,
    threads: usize,
    seconds: f64,
}

/// One clip that was drawn.
#[derive(Debug, Serialize)]
struct Clip {
    /// Its number, which with the seed names its noise.
    clip: usize,
    file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    /// Its row in --cond, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<usize>,
}

pub(crate) fn run(args: &SampleArgs, bars: &MultiProgress) -> Result<Outcome> {
    let target = Target::of(&args.out)?;
    let device = args.compute.start()?;
    let model = Model::open(&args.checkpoint.path, args.weights, device)?;
    let plan = Plan::new(args, &model)?;
    // Looked at before the clips are drawn, which may take long.
    target.prepare()?;
    plan.announce(&model);
    let begun = Instant::now();
    let mut writer = target.writer(&plan, args.seed);
    draw(&model, &plan, bars, &mut |clips| writer.add(clips))?;
    let files = writer.finish()?;
    let clips = files.into_iter().enumerate().map(|(clip, file)| {
        let prompt = plan.prompt(clip).map(str::to_owned);
        Clip { clip, file, prompt, row: plan.row(clip) }
    });
    let [frames, h, w] = plan.shape;
    let report = Report {
        checkpoint: model.checkpoint.dir.clone(),
        step: model.checkpoint.step(),
        weights: model.loaded.weights.to_string(),
        out: args.out.clone(),
        clips: clips.collect(),
        frames,
        size: [h, w],
        fps: plan.fps,
        steps: plan.steps,
        sampler: args.sampler,
        cfg_scale: args.cfg_scale,
        threshold: args.threshold,
        seed: args.seed,
        device: device_name(device),
        threads: vd_torch::threads(),
        seconds: begun.elapsed().as_secs_f64(),
    };
    let text = describe(&report);
    Outcome::new(&report, text)
}

/// Draws all clips, a batch at a time, as pixels: n c f h w, u8.
fn draw(
    model: &Model,
    plan: &Plan,
    bars: &MultiProgress,
    take: &mut dyn FnMut(Tensor) -> Result<()>,
) -> Result<()> {
    let rounds = plan.clips().div_ceil(plan.batch);
    let bar = progress::bar(bars, "sampling step", (rounds * plan.steps) as u64, 0);
    for round in 0..rounds {
        let first = round * plan.batch;
        let clips = first..(first + plan.batch).min(plan.clips());
        let mut on_step = |at: Progress| {
            bar.set_position((round * plan.steps + at.step) as u64);
            ControlFlow::Continue(())
        };
        let videos = generate(&model.generator(), &plan.request(clips, model)?, &mut on_step)?;
        ensure!(
            videos.f_isfinite()?.f_all()?.f_int64_value(&[])? == 1,
            "the network answered with NaN or infinity; an earlier step's checkpoint may be sound"
        );
        take(video::to_u8(&videos))?;
    }
    bar.finish_and_clear();
    Ok(())
}

fn describe(report: &Report) -> String {
    let Report { out, frames, size: [h, w], seconds, .. } = report;
    let clips = plural(report.clips.len(), "clip");
    format!("wrote {clips} of {frames} frames at {h}x{w} to {} ({seconds:.1} s)", out.display())
}
