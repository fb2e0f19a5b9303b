//! `vd extend`: continues a video.

use anyhow::{Result, ensure};
use indicatif::MultiProgress;

use super::input::Input;
use super::{Task, nothing, onward, whole_frames};
use crate::args::ExtendArgs;
use crate::output::{Outcome, plural};

pub(crate) fn run(args: &ExtendArgs, bars: &MultiProgress) -> Result<Outcome> {
    let input = Input::open(&args.video)?;
    input.check_same_size()?;
    input.check_whole()?;
    let (known, window) = (input.frames(), input.window);
    let more = window - (window / 2).max(1).min(known);
    let total = args.frames.map_or(known + more, |n| n as usize);
    ensure!(
        total > known,
        "--frames {total}: the video has {} already, so there is nothing to draw; give {} or more",
        plural(known, "frame"),
        known + 1
    );
    let places: Vec<usize> = (0..known).collect();
    let task = Task {
        plan: input.plan(Ok(onward(window)))?,
        total,
        exact: whole_frames(&places, total, input.pixels()),
        places,
        given: Some(input.video()?),
        fps: input.fps(1),
        parts: &nothing,
    };
    super::run(&input, &task, bars)
}
