//! `vd extend`, `vd interpolate`, `vd inpaint`, `vd upscale`: sample the missing part of a video
//! from a checkpoint, consistent with the known part.

mod extend;
mod given;
mod inpaint;
mod input;
mod interpolate;
mod output;
mod upscale;

use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use indicatif::MultiProgress;
use serde::Serialize;
use tch::Tensor;
use vd_diffusion::{GivenFrames, Known, LongVideoPlan, Window, draw_long};
use vd_text_cond::{GenerateRequest, GivenSignal, KnownParts, Progress};

use super::drawing::{Asked, How, Stop, of_frames};
use crate::output::{Outcome, plural};
use crate::progress;
use input::Input;
use output::Kept;

pub(crate) use extend::run as extend;
pub(crate) use inpaint::run as inpaint;
pub(crate) use interpolate::run as interpolate;
pub(crate) use upscale::run as upscale;

/// The task of one of these commands.
struct Task<'a> {
    plan: LongVideoPlan,
    /// The number of frames in the result.
    total: usize,
    /// The positions of the video's frames in the result.
    places: Vec<usize>,
    /// These frames, 1 c k h w, if they are known completely.
    given: Option<Tensor>,
    fps: f64,
    /// What is known of a window besides completely known frames.
    parts: &'a dyn Fn(&Window) -> Result<Vec<Known>>,
    /// Which pixels of the result are known, one for each frame, row and column.
    exact: Vec<bool>,
}

impl Task<'_> {
    fn given_places(&self) -> &[usize] {
        if self.given.is_some() { &self.places } else { &[] }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    video: PathBuf,
    out: PathBuf,
    /// What was written: one file per format, or the folder.
    files: Vec<PathBuf>,
    frames: usize,
    /// Frames of the input video.
    known_frames: usize,
    windows: usize,
    plan: LongVideoPlan,
    size: [i64; 2],
    fps: f64,
    weight: f64,
    every: u32,
    replace: bool,
    #[serde(flatten)]
    asked: Asked,
    /// Whether every known pixel is unchanged in the file; omitted if none is kept.
    exact: Option<bool>,
    #[serde(flatten)]
    how: How,
    seconds: f64,
}

/// Executes the task and writes the result.
fn run(input: &Input<'_>, task: &Task<'_>, bars: &MultiProgress) -> Result<Outcome> {
    let windows = task.plan.windows(task.total, task.given_places())?.len();
    if windows == 0 {
        bail!("{}: every frame is already known, so there is nothing to draw", input.name());
    }
    let signals = input.signals(task.total)?;
    input.output.prepare()?;
    input.announce(task.total, windows);
    input.output.announce(windows, task.fps);
    let begun = Instant::now();
    let exact = draw(input, task, &signals, bars)?;
    let report = Report {
        video: input.video.to_path_buf(),
        out: input.args.out.clone(),
        files: input.output.paths(),
        frames: task.total,
        known_frames: input.frames(),
        windows,
        plan: task.plan.clone(),
        size: [input.size.h, input.size.w],
        fps: input.output.fps(task.fps),
        weight: input.weight,
        every: input.args.every,
        replace: !input.args.no_replace,
        asked: input.groups.asked(0),
        exact,
        how: How::new(&input.args.draw, &input.drawing, &input.model),
        seconds: begun.elapsed().as_secs_f64(),
    };
    let files: Vec<_> = report.files.iter().map(|file| file.display().to_string()).collect();
    let text = format!(
        "wrote {} at {} to {} in {} ({:.1} s)",
        plural(task.total, "frame"),
        input.size,
        files.join(", "),
        plural(windows, "window"),
        report.seconds
    );
    Outcome::new(&report, text)
}

/// Samples window after window and writes the result; returns whether its known pixels are
/// unchanged.
fn draw(
    input: &Input<'_>,
    task: &Task<'_>,
    signals: &[GivenSignal],
    bars: &MultiProgress,
) -> Result<Option<bool>> {
    let stop = Stop::watch()?;
    let steps = input.drawing.steps;
    let windows = task.plan.windows(task.total, task.given_places())?.len();
    let bar = progress::bar(bars, "sampling step", (windows * steps) as u64, 0);
    let mut index = 0;
    let mut draw = |window: &Window, known: Option<&Tensor>| {
        let mut on_step = |at: Progress| {
            bar.set_position((index * steps + at.step) as u64);
            stop.flow()
        };
        let request = request(input, task, signals, window, known)?;
        let request = GenerateRequest { first_sample: index as u64, ..request };
        let clip = input.drawing.generate(&input.model, &request, &mut on_step);
        index += 1;
        clip
    };
    let kept = Kept { clip: input.clip(), places: &task.places, known: &task.exact };
    let mut writer = input.output.writer(task.fps, kept);
    let mut written = Ok(());
    let mut out = |_: Range<usize>, frames: Tensor| {
        written = writer.add(&frames);
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let given = task.given.as_ref().map(|video| GivenFrames { frames: task.places.clone(), video });
    let drawn = draw_long::<anyhow::Error>(&task.plan, task.total, given, &mut draw, &mut out);
    bar.finish_and_clear();
    drawn.map(drop).and(written).map_err(|error| writer.left(task.total).tell(error))?;
    writer.finish()
}

/// The request for the clip of one window.
fn request(
    input: &Input<'_>,
    task: &Task<'_>,
    signals: &[GivenSignal],
    window: &Window,
    known: Option<&Tensor>,
) -> Result<GenerateRequest> {
    let mut terms = (task.parts)(window)?;
    if let Some(known) = known {
        let places = window.known_places().into_iter().map(|place| place as i64).collect();
        // The last term wins if two concern the same value: these frames are final.
        terms.push(Known::frames(known.shallow_clone(), places));
    }
    let shape = [window.len() as i64, input.size.h, input.size.w];
    let config = input.reconstruction();
    let condition = input.groups.condition(0..1, 1)?;
    // A video shorter than a window ends inside it.
    let last = (task.total - 1).max(1);
    let frames: Vec<_> = window.frames.iter().map(|frame| (*frame).min(task.total - 1)).collect();
    let places: Vec<_> = frames.iter().map(|frame| *frame as i64).collect();
    let network = &input.model.loaded.network;
    let signals = signals.iter().map(|signal| of_frames(signal, network, &places));
    Ok(GenerateRequest {
        signals: signals.collect::<Result<_>>()?,
        along: Some(frames.iter().map(|frame| *frame as f64 / last as f64).collect()),
        known: (!terms.is_empty()).then_some(KnownParts { terms, config }),
        ..input.drawing.request(condition, shape, &input.model)
    })
}

/// Half of a window is known, half is sampled.
fn onward(window: usize) -> LongVideoPlan {
    LongVideoPlan::Autoregressive { window, overlap: (window / 2).max(1) }
}

/// First the frames `factor` apart, if not given, then those between them.
fn between(window: usize, factor: usize, flag: &str) -> Result<LongVideoPlan> {
    // More frames as context, if the window has room for them.
    for overlap in [(window / 2).max(1), 1] {
        let reach = window - overlap;
        let mut strides = vec![1];
        while strides[0] < factor {
            let stride = strides[0];
            let next = (2..=reach).rev().map(|step| step * stride);
            match next.into_iter().find(|next| factor.is_multiple_of(*next)) {
                Some(next) => strides.insert(0, next),
                None => break,
            }
        }
        if strides[0] == factor {
            return Ok(LongVideoPlan::Hierarchical { window, strides, overlap });
        }
    }
    bail!(
        "{flag} {factor}: a window of {window} frames spans at most {} intervals; give a product of \
         numbers up to that, or a larger --window",
        window - 1
    )
}

/// The completely known frames of the result, as a mask of pixels.
fn whole_frames(places: &[usize], total: usize, pixels: usize) -> Vec<bool> {
    let mut exact = vec![false; total * pixels];
    for place in places {
        exact[place * pixels..(place + 1) * pixels].fill(true);
    }
    exact
}

/// No known part in any window.
fn nothing(_: &Window) -> Result<Vec<Known>> {
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn levels_between_keyframes_reach_from_one_to_the_next() {
        for window in 2..20 {
            for factor in 2..40 {
                match between(window, factor, "--factor") {
                    Ok(plan) => {
                        let given: Vec<_> = (0..7).map(|k| k * factor).collect();
                        assert!(plan.windows(6 * factor + 1, &given).is_ok(), "{plan:?}");
                    }
                    // Fails only if a prime factor is too large for the window.
                    Err(_) => assert!((window..=factor).any(|n| factor.is_multiple_of(n))),
                }
            }
        }
        let plan = between(8, 4, "--factor").unwrap();
        let strides = vec![4, 1];
        assert_eq!(plan, LongVideoPlan::Hierarchical { window: 8, strides, overlap: 4 });
    }
}
