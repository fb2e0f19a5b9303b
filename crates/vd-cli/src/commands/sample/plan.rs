//! What is to be sampled: combines the command line with the checkpoint's defaults, and checks
//! both.

use std::ops::Range;

use anyhow::Result;
use tch::Tensor;
use vd_text_cond::{GenerateRequest, GivenSignal};

use crate::args::{FrameSize, SampleArgs};
use crate::commands::drawing::{Ask, Asked, Drawing, Files, Flags, Groups};
use crate::commands::{check_size, memory};
use crate::model::{Model, device_name};
use crate::output::{Usage, plural};

/// The clips to be sampled.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Frames, height and width, for prompts without their own number of frames.
    pub(crate) shape: [i64; 3],
    pub(crate) fps: f64,
    pub(crate) drawing: Drawing,
    /// The conditioning of the clips; each prompt or row is sampled `num` times.
    groups: Groups,
    num: usize,
    /// The signals of each group, or of all clips.
    signals: Vec<Vec<GivenSignal>>,
    /// The clips of each call.
    calls: Vec<Range<usize>>,
}

impl Plan {
    pub(crate) fn new(args: &SampleArgs, model: &Model) -> Result<Self> {
        let flags = Flags {
            prompts: &args.prompt,
            file: args.prompts.as_deref(),
            cond: args.cond.as_deref(),
        };
        let groups = Groups::new(flags, &args.draw, model)?;
        let drawing = Drawing::new(&args.draw, &groups, model)?;
        let geometry = model.checkpoint.geometry();
        let [h, w] = geometry.size.map(|n| n as i64);
        let size = args.size.unwrap_or(FrameSize { h, w });
        check_size(model.config(), size)?;
        let frames = args.frames.map_or(geometry.frames as i64, i64::from);
        let mut plan = Plan {
            shape: [frames, size.h, size.w],
            fps: args.fps.unwrap_or(geometry.fps),
            drawing,
            groups,
            num: args.num as usize,
            signals: Vec::new(),
            calls: Vec::new(),
        };
        let mut files = Files::default();
        let signals = (0..plan.groups.count().max(1)).map(|group| {
            let shape = [plan.frames(group * plan.num), size.h, size.w];
            plan.groups.signals(group, &model.loaded.network, shape, &mut files)
        });
        plan.signals = signals.collect::<Result<_>>()?;
        plan.calls = plan.in_calls(args.batch as usize);
        plan.check_memory(args, model)?;
        Ok(plan)
    }

    /// Refuses a batch that cannot fit into a CPU's memory: the system would end the process.
    fn check_memory(&self, args: &SampleArgs, model: &Model) -> Result<()> {
        let Some(free) = vd_torch::available_memory().filter(|_| !model.device.is_cuda()) else {
            return Ok(());
        };
        let [_, h, w] = self.shape;
        for call in &self.calls {
            let shape = [self.frames(call.start), h, w];
            let each = memory::least_forward(model.config(), shape, args.draw.autocast);
            memory::check_batch(call.len(), each, free)?;
        }
        Ok(())
    }

    /// The number of clips.
    pub(crate) fn clips(&self) -> usize {
        self.num * self.groups.count().max(1)
    }

    /// The clips of each call, in order.
    pub(crate) fn calls(&self) -> &[Range<usize>] {
        &self.calls
    }

    /// As many clips per call as fit into the batch, provided that they differ only in their text
    /// and the values of their signals.
    fn in_calls(&self, batch: usize) -> Vec<Range<usize>> {
        let mut calls: Vec<Range<usize>> = Vec::new();
        for clip in 0..self.clips() {
            match calls.last_mut() {
                Some(call) if call.len() < batch && self.together(call.start, clip) => {
                    call.end += 1;
                }
                _ => calls.push(clip..clip + 1),
            }
        }
        calls
    }

    fn together(&self, a: usize, b: usize) -> bool {
        let (one, other) = (a / self.num, b / self.num);
        if one == other {
            return true;
        }
        let same = |of: &dyn Fn(&Ask) -> String| {
            self.groups.ask(one).map(of) == self.groups.ask(other).map(of)
        };
        let signals = |group: usize| {
            let signals = self.signals[group].iter();
            signals.map(|s| (s.name.as_str(), s.values.size(), s.scale)).collect::<Vec<_>>()
        };
        // Clips with their own seed are counted from 0, and so cannot share a call with others.
        same(&|ask| format!("{:?}", (ask.text.is_some(), ask.scale, ask.frames)))
            && [one, other].iter().all(|group| self.own_seed(*group).is_none())
            && signals(one) == signals(other)
    }

    /// The own seed of a line in a file.
    fn own_seed(&self, group: usize) -> Option<u64> {
        self.groups.ask(group).and_then(|ask| ask.seed)
    }

    /// The request for some of the clips.
    pub(crate) fn request(&self, clips: Range<usize>, model: &Model) -> Result<GenerateRequest> {
        let (first, [_, h, w]) = (clips.start, self.shape);
        let shape = [self.frames(first), h, w];
        let signals = self.together_signals(clips.clone())?;
        let condition = self.groups.condition(clips, self.num)?;
        let request = self.drawing.request(condition, shape, model);
        let group = first / self.num;
        let scale = match self.groups.ask(group) {
            Some(ask) if ask.text.is_none() => 1.0,
            Some(ask) => ask.scale.unwrap_or(request.guidance),
            None => request.guidance,
        };
        let first = if self.own_seed(group).is_some() { first % self.num } else { first };
        Ok(GenerateRequest {
            first_sample: first as u64,
            seed: self.own_seed(group).unwrap_or(request.seed),
            guidance: scale,
            signals,
            ..request
        })
    }

    /// The signals of the clips of a call.
    fn together_signals(&self, clips: Range<usize>) -> Result<Vec<GivenSignal>> {
        let shared = &self.signals[clips.start / self.num];
        let of_clips = |i: usize| -> Result<Tensor> {
            let rows = clips.clone().map(|clip| &self.signals[clip / self.num][i].values);
            Ok(Tensor::f_cat(&rows.collect::<Vec<_>>(), 0)?)
        };
        let given = shared.iter().enumerate().map(|(i, GivenSignal { name, scale, .. })| {
            Ok(GivenSignal { name: name.clone(), values: of_clips(i)?, scale: *scale })
        });
        given.collect()
    }

    /// Reports on stderr what will be sampled, and warns about questionable settings.
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

    /// How many clips are placed side by side in a shared picture.
    pub(crate) fn columns(&self) -> usize {
        match self.groups.count() {
            0 | 1 => (self.num as f64).sqrt().ceil() as usize,
            _ => self.num,
        }
    }

    /// Refuses a shared picture for clips of different lengths.
    pub(crate) fn check_one_picture(&self) -> Result<()> {
        let frames = |call: &Range<usize>| self.frames(call.start);
        let first = self.calls.first().map(frames);
        match self.calls.iter().map(frames).find(|n| Some(*n) != first) {
            None => Ok(()),
            Some(n) => Err(Usage(format!(
                "--out FILE: the prompts ask for clips of {} and of {n} frames, which one \
                 picture cannot show; give a folder",
                first.unwrap_or(n)
            ))
            .into()),
        }
    }

    /// The number of frames of a clip.
    pub(crate) fn frames(&self, clip: usize) -> i64 {
        let [frames, ..] = self.shape;
        self.ask(clip).and_then(|ask| ask.frames).unwrap_or(frames)
    }

    /// The seed of a clip's noise, if it has its own.
    pub(crate) fn seed(&self, clip: usize) -> Option<u64> {
        self.own_seed(clip / self.num)
    }

    /// A clip's own request.
    pub(crate) fn ask(&self, clip: usize) -> Option<&Ask> {
        self.groups.ask(clip / self.num)
    }

    /// The conditioning of a clip, for reports.
    pub(crate) fn asked(&self, clip: usize) -> Asked {
        self.groups.asked(clip / self.num)
    }

    /// The prompt of a clip.
    pub(crate) fn prompt(&self, clip: usize) -> Option<String> {
        self.ask(clip).and_then(|ask| ask.text.as_ref()).map(ToString::to_string)
    }

    /// The row of --cond of a clip.
    pub(crate) fn row(&self, clip: usize) -> Option<usize> {
        self.groups.is_rows().then_some(clip / self.num)
    }
}
