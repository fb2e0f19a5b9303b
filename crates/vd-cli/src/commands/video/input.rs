//! The video, the checkpoint and the flags that these commands share.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use tch::Tensor;
use vd_data::AnyClip;
use vd_diffusion::{LongVideoPlan, ReconstructionConfig};
use vd_text_cond::GivenSignal;

use super::given;
use super::output::Output;
use crate::args::{FrameSize, VideoArgs};
use crate::commands::check_size;
use crate::commands::drawing::{Drawing, Files, Flags, Groups};
use crate::model::{Model, device_name};
use crate::output::{Usage, plural};

/// The default guidance weight of known frames, and of known pixels that are replaced.
const WEIGHT: f64 = 2.0;
/// The default weight of pixels that are not replaced: with a larger one they would not converge.
const WEIGHT_ALONE: f64 = 1.0;

/// The inputs, before anything is sampled.
pub(super) struct Input<'a> {
    pub(super) args: &'a VideoArgs,
    /// The path of the video.
    pub(super) video: &'a Path,
    pub(super) output: Output<'a>,
    pub(super) model: Model,
    pub(super) groups: Groups,
    pub(super) drawing: Drawing,
    /// The number of frames that the model samples at a time.
    pub(super) window: usize,
    /// The frame size that the model samples.
    pub(super) size: FrameSize,
    /// The weight of the guidance towards known pixels.
    pub(super) weight: f64,
    clip: AnyClip,
}

impl<'a> Input<'a> {
    pub(super) fn open(args: &'a VideoArgs) -> Result<Self> {
        args.draw.check(false)?;
        args.draw.check_encoder(args.prompt.is_some())?;
        if args.weight == Some(0.0) && args.no_replace {
            let why = "--weight 0 with --no-replace: known pixels would have no effect; omit \
                       one of the two";
            return Err(Usage(why.to_owned()).into());
        }
        let output = Output::of(&args.out, &args.format)?;
        let device = args.draw.compute.start()?;
        let (checkpoint, video) = in_order(&args.checkpoint.path, &args.video);
        let mut model = Model::open(checkpoint, args.draw.weights, device, args.draw.precision)?
            .with_autocast(args.draw.autocast)
            .with_graphs(args.draw.graphs);
        let output = output.of_model(&model, args.dtype)?;
        if args.prompt.is_some() {
            model.open_encoder(args.draw.encoder.as_deref())?;
        }
        let flags =
            Flags { prompts: args.prompt.as_slice(), file: None, cond: args.cond.as_deref() };
        let groups = Groups::new(flags, &args.draw, &model)?;
        if groups.count() > 1 {
            bail!("--cond: {} rows, expected one: there is one video", groups.count());
        }
        let drawing = Drawing::new(&args.draw, &groups, &model)?;
        let geometry = model.checkpoint.geometry();
        let [h, w] = geometry.size.map(|n| n as i64);
        let size = args.size.unwrap_or(FrameSize { h, w });
        check_size(model.config(), size)?;
        let window = args.window.map_or(geometry.frames, |n| n as usize);
        ensure!(
            window > 1,
            "this model draws one frame at a time; give --window 2 or more to try it on videos"
        );
        let clip = given::read(video, &model)?;
        let usual = if args.no_replace { WEIGHT_ALONE } else { WEIGHT };
        let weight = args.weight.unwrap_or(usual);
        Ok(Input { args, video, output, model, groups, drawing, window, size, weight, clip })
    }

    /// The video's name for messages.
    pub(super) fn name(&self) -> String {
        self.video.display().to_string()
    }

    /// The number of frames in the video.
    pub(super) fn frames(&self) -> usize {
        self.clip.f()
    }

    /// The number of pixels in a frame of the result.
    pub(super) fn pixels(&self) -> usize {
        (self.size.h * self.size.w) as usize
    }

    /// Height and width of the video.
    pub(super) fn video_size(&self) -> FrameSize {
        let [_, h, w, _] = self.clip.shape().map(|n| n as i64);
        FrameSize { h, w }
    }

    /// The rate of a result with `times` times the frames of the video.
    pub(super) fn fps(&self, times: usize) -> f64 {
        self.args.fps.unwrap_or(self.clip.fps() * times as f64)
    }

    /// The video in the range of the diffusion process, 1 c f h w; missing values are 0.
    pub(super) fn video(&self) -> Result<Tensor> {
        given::tensor(&self.clip, &self.model)
    }

    /// The video as read.
    pub(super) fn clip(&self) -> &AnyClip {
        &self.clip
    }

    /// Which pixels have no missing values (f h w); `None` if all of them.
    pub(super) fn present(&self) -> Option<Vec<bool>> {
        given::present(&self.clip)
    }

    /// Refuses a video with missing values.
    pub(super) fn check_whole(&self) -> Result<()> {
        let missing = self.present().map_or(0, |all| all.iter().filter(|there| !**there).count());
        ensure!(
            missing == 0,
            "{}: numbers of {} are missing, but all are needed; `vd inpaint --missing` draws them",
            self.name(),
            plural(missing, "pixel")
        );
        Ok(())
    }

    /// The requested plan, or by default `usual`.
    pub(super) fn plan(&self, usual: Result<LongVideoPlan>) -> Result<LongVideoPlan> {
        match &self.args.plan {
            None => usual,
            Some(plan) => {
                let of = |why| {
                    Usage(format!("--plan with windows of {}: {why}", plural(self.window, "frame")))
                };
                plan.of(self.window).map_err(|why| of(why).into())
            }
        }
    }

    /// How known pixels guide the others.
    pub(super) fn reconstruction(&self) -> ReconstructionConfig {
        ReconstructionConfig {
            weight: self.weight,
            replace: !self.args.no_replace,
            every: self.args.every as usize,
        }
    }

    /// Refuses a video whose size is not the one that the model samples.
    pub(super) fn check_same_size(&self) -> Result<()> {
        let (found, size) = (self.video_size(), self.size);
        ensure!(
            found == size,
            "{}: frames of {found}, expected {size}, which {} draws; give --size {found} to have \
             it draw that, or scale and crop the video: {}",
            self.name(),
            if self.args.size.is_some() { "--size" } else { "this checkpoint" },
            scale_to(self.video, size)
        );
        Ok(())
    }

    /// The conditioning inputs besides the prompt, for a result of `total` frames.
    pub(super) fn signals(&self, total: usize) -> Result<Vec<GivenSignal>> {
        let shape = [total as i64, self.size.h, self.size.w];
        self.groups.signals(0, &self.model.loaded.network, shape, &mut Files::default())
    }

    /// Reports on stderr what will be sampled, and warns about questionable settings.
    pub(super) fn announce(&self, total: usize, windows: usize) {
        let model = &self.model;
        let step = model.checkpoint.step().map_or(String::new(), |n| format!(" of step {n}"));
        tracing::info!(
            "drawing {} of {} frames for {total} frames at {} in {} steps each with the {} weights{step} on {}, {}",
            plural(windows, "window"),
            self.window,
            self.size,
            self.drawing.steps,
            model.loaded.weights,
            device_name(model.device),
            plural(vd_torch::threads(), "thread"),
        );
        self.drawing.announce(&self.groups, model);
    }
}

/// What scales and crops a video so that it fills frames of a size; ffmpeg has the width first.
fn scale_to(video: &Path, FrameSize { h, w }: FrameSize) -> String {
    let video = video.display().to_string().replace('\'', "'\\''");
    format!(
        "ffmpeg -i '{video}' -vf \"scale={w}:{h}:force_original_aspect_ratio=increase,\
         crop={w}:{h}\" scaled.gif"
    )
}

/// The checkpoint and the video, which the command line may name in either order.
fn in_order<'a>(first: &'a Path, second: &'a Path) -> (&'a Path, &'a Path) {
    if !is_checkpoint(first) && is_checkpoint(second) { (second, first) } else { (first, second) }
}

/// Whether a path looks like a checkpoint or a run.
fn is_checkpoint(path: &Path) -> bool {
    ["config.toml", "checkpoints"].iter().any(|name| path.join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_scales_has_the_width_first() {
        let command = scale_to(Path::new("it's.gif"), FrameSize { h: 16, w: 24 });
        let filter = "\"scale=24:16:force_original_aspect_ratio=increase,crop=24:16\"";
        assert_eq!(command, format!("ffmpeg -i 'it'\\''s.gif' -vf {filter} scaled.gif"));
    }
}
