//! `vd sample`: samples clips from a checkpoint.

mod list;
mod plan;
mod target;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use indicatif::MultiProgress;
use serde::Serialize;
use vd_text_cond::Progress;

use super::drawing::{Asked, How, Stop};
use super::formats;
use crate::args::SampleArgs;
use crate::model::Model;
use crate::output::{Outcome, Usage, plural};
use crate::progress;
use plan::Plan;
use target::Target;

#[derive(Debug, Serialize)]
struct Report {
    out: PathBuf,
    /// One file with all clips and their captions.
    #[serde(skip_serializing_if = "Option::is_none")]
    grid: Option<PathBuf>,
    clips: Vec<Clip>,
    frames: i64,
    size: [i64; 2],
    fps: f64,
    #[serde(flatten)]
    how: How,
    seconds: f64,
}

/// One sampled clip.
#[derive(Debug, Serialize)]
struct Clip {
    /// Its number, which together with the seed determines its noise.
    clip: usize,
    file: PathBuf,
    /// All files, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<PathBuf>,
    #[serde(flatten)]
    asked: Asked,
    /// Its own seed from its line in --prompts.
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
    let target = Target::of(out, &args.format, args.grid.as_deref())?;
    let device = args.draw.compute.start()?;
    let mut model = Model::open(checkpoint, args.draw.weights, device, args.draw.precision)?
        .with_autocast(args.draw.autocast)
        .with_graphs(args.draw.graphs);
    if asks {
        model.open_encoder(args.draw.encoder.as_deref())?;
    }
    let target = target.of_model(&model, args.dtype)?;
    let plan = Plan::new(args, &model)?;
    target.check(&plan)?;
    // Checked before sampling, which may take long.
    target.prepare()?;
    plan.announce(&model);
    formats::announce_rates(target.formats(), plan.fps);
    let begun = Instant::now();
    let mut writer = target.writer(&plan, args.draw.seed);
    let drawn = draw(&model, &plan, bars, &mut writer);
    drawn.map_err(|error| writer.broken_off().tell(error))?;
    let files = writer.finish()?;
    let clips = files.into_iter().enumerate().map(|(clip, files)| {
        let ask = plan.ask(clip);
        Clip {
            clip,
            file: files.first().cloned().unwrap_or_default(),
            files: if files.len() > 1 { files } else { Vec::new() },
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
        grid: args.grid.clone(),
        clips: clips.collect(),
        frames,
        size: [h, w],
        fps: target.fps(plan.fps),
        how: How::new(&args.draw, &plan.drawing, &model),
        seconds: begun.elapsed().as_secs_f64(),
    };
    let text = describe(&report);
    Outcome::new(&report, text)
}

/// Samples all clips, and passes on each batch as soon as it is done: n c f h w, f32.
fn draw(
    model: &Model,
    plan: &Plan,
    bars: &MultiProgress,
    writer: &mut target::Writer<'_>,
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
        writer.add(&videos)?;
        bar.set_message(format!("{} of {}", writer.clips(), plural(plan.clips(), "clip")));
    }
    bar.finish_and_clear();
    Ok(())
}

fn describe(report: &Report) -> String {
    let Report { out, frames, size: [h, w], seconds, .. } = report;
    let clips = plural(report.clips.len(), "clip");
    let grid =
        report.grid.as_ref().map_or(String::new(), |grid| format!(", all in {}", grid.display()));
    format!(
        "wrote {clips} of {frames} frames at {h}x{w} to {}{grid} ({seconds:.1} s)",
        out.display()
    )
}
