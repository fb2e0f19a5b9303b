//! `vd upscale`: increases the resolution and frame rate of a video.

use anyhow::{Result, ensure};
use indicatif::MultiProgress;
use tch::Tensor;
use vd_diffusion::{Downscale, Known, KnownFrames, Window};

use super::input::Input;
use super::{Task, between, onward, whole_frames};
use crate::args::{DownName, FrameSize, UpscaleArgs};
use crate::output::{Outcome, Usage};

pub(crate) fn run(args: &UpscaleArgs, bars: &MultiProgress) -> Result<Outcome> {
    let mut input = Input::open(&args.video)?;
    input.check_whole()?;
    let (factor, time) = (factor(&input)?, args.time as usize);
    if factor > 1 {
        // A pixel in a mean over k x k has 1 / k^2 of the gradient. With weight k^2, one step
        // closes the gap near the clean end, and twice that overshoots.
        input.weight = args.video.weight.unwrap_or((factor * factor) as f64);
    }
    if factor > 1 && input.weight == 0.0 {
        let why = "--weight 0: the small video acts only through the gradient; \
                   give a weight above 0";
        return Err(Usage(why.to_owned()).into());
    }
    ensure!(
        factor > 1 || time > 1,
        "{}: frames are already {}, the size to draw; give a larger --size, or --time 2",
        input.name(),
        input.size
    );
    ensure!(
        time == 1 || input.frames() >= 2,
        "{}: 1 frame, expected 2 or more to draw between; omit --time, or continue it with \
         `vd extend` first",
        input.name()
    );
    let total = (input.frames() - 1) * time + 1;
    let usual = match time {
        1 => Ok(onward(input.window)),
        _ => between(input.window, time, "--time"),
    };
    let down = match (args.down, factor) {
        (_, 1) => Downscale::None,
        (DownName::Area, factor) => Downscale::Area { factor },
        (DownName::Bilinear, factor) => Downscale::Bilinear { factor },
    };
    let video = input.video()?;
    let parts = |window: &Window| part(&video, window, time, down);
    let places: Vec<usize> = (0..total).step_by(time).collect();
    let whole = factor == 1;
    let task = Task {
        plan: input.plan(usual)?,
        total,
        exact: whole_frames(if whole { &places } else { &[] }, total, input.pixels()),
        places,
        given: whole.then(|| video.shallow_clone()),
        fps: input.fps(time),
        parts: &parts,
    };
    super::run(&input, &task, bars)
}

/// The ratio of the model's frame size to the video's.
fn factor(input: &Input<'_>) -> Result<i64> {
    let (small, large) = (input.video_size(), input.size);
    let factor = large.h / small.h;
    ensure!(
        factor >= 1 && small.h * factor == large.h && small.w * factor == large.w,
        "{}: frames of {small}, expected {large} divided by an integer, the same for height and \
         width; give --size {}, or scale the video",
        input.name(),
        usable(small, input.model.config().spatial_multiple())
    );
    Ok(factor)
}

/// The smallest integer multiples of a video's size that a network supports whose sides must be
/// divisible by `multiple`.
fn usable(small: FrameSize, multiple: i64) -> String {
    let sizes = (2..).map(|factor| FrameSize { h: small.h * factor, w: small.w * factor });
    let sizes = sizes.filter(|size| size.h % multiple == 0 && size.w % multiple == 0).take(3);
    sizes.map(|size| size.to_string()).collect::<Vec<_>>().join(", ") + " or larger"
}

/// The small frames within a window.
fn part(video: &Tensor, window: &Window, time: usize, down: Downscale) -> Result<Vec<Known>> {
    // Completely known frames are already handled.
    if down == Downscale::None {
        return Ok(Vec::new());
    }
    let small = video.size()[2] as usize;
    let seen = window.frames.iter().enumerate();
    let seen = seen.filter(|(_, frame)| *frame % time == 0 && *frame / time < small);
    let (places, frames): (Vec<i64>, Vec<i64>) =
        seen.map(|(place, frame)| (place as i64, (frame / time) as i64)).unzip();
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let x0 = video.f_index_select(2, &Tensor::f_from_slice(&frames)?)?;
    Ok(vec![Known { x0, frames: KnownFrames::At(places), down, mask: None, weight: 1.0 }])
}
