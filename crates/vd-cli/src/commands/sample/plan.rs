//! What is to be drawn: the command line, the checkpoint's own defaults, and what neither allows.

use std::ops::Range;

use anyhow::Result;
use vd_text_cond::GenerateRequest;

use crate::args::{FrameSize, SampleArgs};
use crate::commands::check_size;
use crate::commands::drawing::{Drawing, Groups};
use crate::model::{Model, device_name};
use crate::output::plural;

/// What is to be drawn.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Frames, height and width.
    pub(crate) shape: [i64; 3],
    pub(crate) fps: f64,
    /// The most clips that are drawn at a time.
    pub(crate) batch: usize,
    pub(crate) drawing: Drawing,
    /// What the clips show; each prompt or row is drawn `num` times.
    groups: Groups,
    num: usize,
}

impl Plan {
    pub(crate) fn new(args: &SampleArgs, model: &Model) -> Result<Self> {
        let groups = Groups::new(&args.prompt, args.cond.as_deref(), model)?;
        let drawing = Drawing::new(&args.draw, &groups, model)?;
        let geometry = model.checkpoint.geometry();
        let [h, w] = geometry.size.map(|n| n as i64);
        let size = args.size.unwrap_or(FrameSize { h, w });
        check_size(model.config(), size)?;
        let frames = args.frames.map_or(geometry.frames as i64, i64::from);
        Ok(Plan {
            shape: [frames, size.h, size.w],
            fps: args.fps.unwrap_or(geometry.fps),
            batch: args.batch as usize,
            drawing,
            groups,
            num: args.num as usize,
        })
    }

    /// The number of clips.
    pub(crate) fn clips(&self) -> usize {
        self.num * self.groups.count().max(1)
    }

    /// The call that draws some of the clips.
    pub(crate) fn request(&self, clips: Range<usize>, model: &Model) -> Result<GenerateRequest> {
        let condition = self.groups.condition(clips.clone(), self.num)?;
        Ok(GenerateRequest {
            first_sample: clips.start as u64,
            ..self.drawing.request(condition, self.shape, model)
        })
    }

    /// Says on stderr what is about to be drawn, and what is doubtful about it.
    pub(crate) fn announce(&self, model: &Model) {
        let [frames, h, w] = self.shape;
        let step = model.checkpoint.step().map_or(String::new(), |n| format!(" of step {n}"));
        tracing::info!(
            "drawing {} of {frames} frames at {h}x{w} in {} steps with the {} weights{step} on {}, {}",
            plural(self.clips(), "clip"),
            self.drawing.steps,
            model.loaded.weights,
            device_name(model.device),
            plural(vd_torch::threads(), "thread"),
        );
        self.drawing.announce(&self.groups, model);
    }

    /// How many clips stand side by side where they share a picture.
    pub(crate) fn columns(&self) -> usize {
        match self.groups.count() {
            0 | 1 => (self.num as f64).sqrt().ceil() as usize,
            _ => self.num,
        }
    }

    /// The prompt of a clip.
    pub(crate) fn prompt(&self, clip: usize) -> Option<&str> {
        self.groups.prompt(clip / self.num)
    }

    /// The row of --cond of a clip.
    pub(crate) fn row(&self, clip: usize) -> Option<usize> {
        matches!(self.groups, Groups::Rows(_)).then_some(clip / self.num)
    }
}
