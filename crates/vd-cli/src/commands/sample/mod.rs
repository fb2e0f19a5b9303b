//! `vd sample`: clips from a checkpoint.

mod list;
mod numbers;
mod plan;
mod target;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use indicatif::MultiProgress;
use serde::Serialize;
use tch::Tensor;
use vd_data::picture;
use vd_text_cond::Progress;

use super::drawing::{Asked, How, Stop};
use super::gif_rate;
use crate::args::SampleArgs;
use crate::model::Model;
use crate::output::{Outcome, Usage, plural};
use crate::progress;
use numbers::{Format, Numbers};
use plan::Plan;
pub(super) use target::Target;

#[derive(Debug, Serialize)]
struct Report {
    out: PathBuf,
    clips: Vec<Clip>,
    frames: i64,
    size: [i64; 2],
    fps: f64,
    #[serde(flatten)]
    how: How,
    seconds: f64,
}

/// One clip that was drawn.
#[derive(Debug, Serialize)]
struct Clip {
    /// Its number, which with the seed names its noise.
    clip: usize,
    file: PathBuf,
    /// Its numbers, in the unit that they were learned in.
    #[serde(skip_serializing_if = "Option::is_none")]
    numbers: Option<PathBuf>,
    #[serde(flatten)]
    asked: Asked,
    /// What its line of --prompts has for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cfg_scale: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frames: Option<i64>,
    /// Its row in --cond, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<usize>,
}

pub(crate) fn run(args: &SampleArgs, bars: &MultiProgress) -> Result<Outcome> {
    match (&args.checkpoint, &args.out) {
        _ if args.list => list::run(),
        (Some(checkpoint), Some(out)) => draw_to(args, checkpoint, out, bars),
        _ => Err(Usage("sample: expected CHECKPOINT and --out, or --list".to_owned()).into()),
    }
}

fn draw_to(
    args: &SampleArgs,
    checkpoint: &Path,
    out: &Path,
    bars: &MultiProgress,
) -> Result<Outcome> {
    let asks = !args.prompt.is_empty() || args.prompts.is_some();
    args.draw.check(args.prompts.is_some())?;
    args.draw.check_encoder(asks)?;
    let pictures = numbers::pictures(out);
    let target = Target::of(&pictures)?;
    let device = args.draw.compute.start()?;
    let mut model = Model::open(checkpoint, args.draw.weights, device, args.draw.precision)?;
    if asks {
        model.open_encoder(args.draw.encoder.as_deref())?;
    }
    let mut plan = Plan::new(args, &model)?;
    if let Target::File(_) = target {
        plan.check_one_picture()?;
    }
    // Looked at before the clips are drawn, which may take long.
    let format = Format::of(args, out, &model)?;
    target.prepare()?;
    plan.announce(&model);
    plan.fps = gif_rate(plan.fps);
    let begun = Instant::now();
    let mut writer = target.writer(&plan, args.draw.seed);
    let mut numbers = format.map(|format| Numbers::new(format, &model));
    let drawn = draw(&model, &plan, bars, &mut |videos| {
        let before = writer.files().len();
        writer.add(picture(&videos, model.normaliser.as_ref())?)?;
        match &mut numbers {
            Some(numbers) => numbers.add(&videos, &writer.files()[before..], plan.fps),
            None => Ok(()),
        }
    });
    drawn.map_err(|error| writer.left().tell(error))?;
    let files = writer.finish()?;
    let numbers = numbers.map(|numbers| numbers.finish(&pictures)).transpose()?;
    let clips = files.into_iter().enumerate().map(|(clip, file)| {
        let ask = plan.ask(clip);
        Clip {
            clip,
            file,
            numbers: numbers.as_ref().and_then(|files| files.get(clip).cloned()),
            asked: plan.asked(clip),
            seed: plan.seed(clip),
            cfg_scale: ask.and_then(|ask| ask.scale),
            frames: ask.and_then(|ask| ask.frames),
            row: plan.row(clip),
        }
    });
    let [frames, h, w] = plan.shape;
    let report = Report {
        out: out.to_path_buf(),
        clips: clips.collect(),
        frames,
        size: [h, w],
        fps: plan.fps,
        how: How::new(&args.draw, &plan.drawing, &model),
        seconds: begun.elapsed().as_secs_f64(),
    };
    let text = describe(&report);
    Outcome::new(&report, text)
}

/// Draws all clips, a batch at a time, as the model has them: n c f h w, f32.
fn draw(
    model: &Model,
    plan: &Plan,
    bars: &MultiProgress,
    take: &mut dyn FnMut(Tensor) -> Result<()>,
) -> Result<()> {
    let (rounds, steps) = (plan.calls().len(), plan.drawing.steps);
    let stop = Stop::watch()?;
    let bar = progress::bar(bars, "sampling step", (rounds * steps) as u64, 0);
    for (round, clips) in plan.calls().iter().enumerate() {
        let mut on_step = |at: Progress| {
            bar.set_position((round * steps + at.step) as u64);
            stop.flow()
        };
        let videos =
            plan.drawing.generate(model, &plan.request(clips.clone(), model)?, &mut on_step)?;
        take(videos)?;
    }
    bar.finish_and_clear();
    Ok(())
}

fn describe(report: &Report) -> String {
    let Report { out, frames, size: [h, w], seconds, .. } = report;
    let clips = plural(report.clips.len(), "clip");
    format!("wrote {clips} of {frames} frames at {h}x{w} to {} ({seconds:.1} s)", out.display())
}
