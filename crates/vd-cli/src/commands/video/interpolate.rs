//! `vd interpolate`: samples frames between those of a video.

use anyhow::{Result, ensure};
use indicatif::MultiProgress;

use super::input::Input;
use super::{Task, between, nothing, whole_frames};
use crate::args::InterpolateArgs;
use crate::output::Outcome;

pub(crate) fn run(args: &InterpolateArgs, bars: &MultiProgress) -> Result<Outcome> {
    let input = Input::open(&args.video)?;
    input.check_same_size()?;
    input.check_whole()?;
    let (known, factor) = (input.frames(), args.factor as usize);
    ensure!(
        known >= 2,
        "{}: 1 frame, expected 2 or more to draw between; `vd extend` continues from one",
        input.name()
    );
    let total = (known - 1) * factor + 1;
    let places: Vec<usize> = (0..known).map(|frame| frame * factor).collect();
    let task = Task {
        plan: input.plan(between(input.window, factor, "--factor"))?,
        total,
        exact: whole_frames(&places, total, input.pixels()),
        places,
        given: Some(input.video()?),
        fps: input.fps(factor),
        parts: &nothing,
    };
    super::run(&input, &task, bars)
}
