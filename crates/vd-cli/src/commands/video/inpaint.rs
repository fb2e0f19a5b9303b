//! `vd inpaint`: resamples a part of a video.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use indicatif::MultiProgress;
use tch::{Device, Kind, Tensor};
use vd_diffusion::{Downscale, Known, KnownFrames, Window};

use super::input::Input;
use super::{Task, onward};
use crate::args::{FrameSize, InpaintArgs, PixelBox};
use crate::output::{Outcome, plural};

/// Mask pixels with at least this value are white.
const WHITE: i64 = 128;

pub(crate) fn run(args: &InpaintArgs, bars: &MultiProgress) -> Result<Outcome> {
    let input = Input::open(&args.video)?;
    input.check_same_size()?;
    let total = input.frames();
    let present = present(&input)?;
    let known = match (&args.mask, args.area, &present) {
        (Some(mask), ..) => read_mask(mask, input.size, total)?,
        (_, Some(area), _) => box_mask(area, input.size)?,
        (.., Some(present)) if args.missing => present.shallow_clone(),
        _ if args.missing => {
            bail!("--missing: {}: no number is missing, so there is nothing to draw", input.name())
        }
        _ => bail!("expected --mask, --box or --missing to select the pixels to draw"),
    };
    if known.f_any()?.f_int64_value(&[])? == 0 {
        let flag = match (&args.mask, args.missing) {
            (Some(_), _) => "--mask: all white",
            (None, true) => "--missing: covers every frame completely",
            (None, false) => "--box: covers every frame completely",
        };
        tracing::warn!(
            "{flag}, so nothing of the video is kept; the black pixels of a mask are kept"
        );
    }
    let known = known.f_expand([total as i64, -1, -1], false)?.f_contiguous()?; // f h w
    let known = match &present {
        Some(present) => known.f_logical_and(present)?,
        None => known,
    };
    let video = input.video()?;
    let parts = |window: &Window| part(&video, &known, window);
    let mut exact = vec![false; total * input.pixels()];
    if !args.video.no_replace {
        known.f_copy_data(&mut exact, total * input.pixels())?;
    }
    let task = Task {
        plan: input.plan(Ok(onward(input.window)))?,
        total,
        places: (0..total).collect(),
        given: None,
        fps: input.fps(1),
        parts: &parts,
        exact,
    };
    super::run(&input, &task, bars)
}

/// Which pixels have no missing values, bool, f h w; `None` if all of them.
fn present(input: &Input<'_>) -> Result<Option<Tensor>> {
    let FrameSize { h, w } = input.size;
    let of = |present: Vec<bool>| Ok(Tensor::f_from_slice(&present)?.f_view([-1, h, w])?);
    input.present().map(of).transpose()
}

/// The known pixels in the frames of a window.
fn part(video: &Tensor, known: &Tensor, window: &Window) -> Result<Vec<Known>> {
    let total = known.size()[0];
    let frames = window.frames.iter().map(|frame| *frame as i64);
    // A video shorter than a window ends inside it.
    let frames: Vec<_> = frames.take_while(|frame| *frame < total).collect();
    let index = Tensor::f_from_slice(&frames)?;
    let mask = known.f_index_select(0, &index)?.f_unsqueeze(0)?.f_unsqueeze(0)?; // 1 1 n h w
    Ok(vec![Known {
        x0: video.f_index_select(2, &index)?,
        frames: KnownFrames::At((0..frames.len() as i64).collect()),
        down: Downscale::None,
        mask: Some(mask),
        weight: 1.0,
    }])
}

/// Which pixels are known, bool: 1 h w, or f h w if the mask moves.
fn read_mask(path: &Path, size: FrameSize, total: usize) -> Result<Tensor> {
    let name = path.display();
    let clip = vd_data::decode(path, 1).context("--mask")?;
    let found = FrameSize { h: clip.h as i64, w: clip.w as i64 };
    ensure!(
        found == size,
        "--mask {name}: {found} pixels, expected {size} like the frames; make the mask that size"
    );
    ensure!(
        clip.f == 1 || clip.f == total,
        "--mask {name}: {}, expected 1 picture for all frames, or {total} like the video",
        plural(clip.f, "frame")
    );
    let pixels = Tensor::f_from_slice(&clip.frames)?.f_view([clip.f as i64, size.h, size.w])?;
    let known = pixels.f_lt(WHITE)?;
    let drawn = known.f_logical_not()?;
    ensure!(
        drawn.f_any()?.f_int64_value(&[])? == 1,
        "--mask {name}: all black, so there is nothing to draw; paint the pixels to draw white \
         ({WHITE} or brighter)"
    );
    Ok(known)
}

fn box_mask(area: PixelBox, size: FrameSize) -> Result<Tensor> {
    let PixelBox { y, x, h, w } = area;
    ensure!(
        y + h <= size.h && x + w <= size.w,
        "--box {area}: rows {y} to {} and columns {x} to {}, but the frames are {size}; give a box \
         inside them",
        y + h - 1,
        x + w - 1
    );
    let known = Tensor::f_ones([1, size.h, size.w], (Kind::Bool, Device::Cpu))?;
    let _ = known.f_narrow(1, y, h)?.f_narrow(2, x, w)?.f_fill_(0)?;
    Ok(known)
}
