//! What is to be drawn: the command line, the checkpoint's own defaults, and what neither allows.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tch::Tensor;
use vd_diffusion::{SamplerConfig, Threshold};
use vd_text_cond::{Condition, GenerateRequest, NullEmbedding, read_embeddings};

use crate::args::{FrameSize, SampleArgs, SamplerName, ThresholdName};
use crate::commands::check_size;
use crate::model::{Model, device_name};
use crate::output::plural;

/// Steps with DDIM where nothing is said.
const DDIM_STEPS: usize = 50;
/// Steps with ancestral sampling in continuous time where nothing is said.
const DDPM_STEPS: usize = 256;

/// What is to be drawn.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) request: GenerateRequest,
    pub(crate) fps: f64,
    /// Prompts or rows, each drawn `num` times; `None` without any.
    groups: Option<Groups>,
    num: usize,
}

#[derive(Debug)]
enum Groups {
    Prompts(Vec<String>),
    Rows(usize),
}

impl Plan {
    pub(crate) fn new(args: &SampleArgs, model: &Model) -> Result<Self> {
        check_guidance(args, model)?;
        let config = model.config();
        ensure!(
            config.out_channels() == config.channels,
            "this network answers with {} channels to {}: clips cannot be drawn from it",
            config.out_channels(),
            config.channels
        );
        let geometry = model.checkpoint.geometry();
        let [h, w] = geometry.size.map(|n| n as i64);
        let size = args.size.unwrap_or(FrameSize { h, w });
        check_size(config, size)?;
        let frames = args.frames.map_or(geometry.frames as i64, i64::from);
        let num = args.num as usize;
        let (condition, groups) = condition(args, model, num)?;
        let request = GenerateRequest {
            channels: config.channels,
            steps: steps(args, model)?,
            sampler: match args.sampler {
                SamplerName::Ddpm => SamplerConfig::Ddpm { gamma: 0.0 },
                SamplerName::Ddim => SamplerConfig::Ddim { eta: 0.0 },
            },
            guidance: args.cfg_scale,
            threshold: match args.threshold {
                ThresholdName::Static => Threshold::Static,
                ThresholdName::Dynamic => Threshold::dynamic(),
                ThresholdName::None => Threshold::None,
            },
            seed: args.seed,
            batch: args.batch as usize,
            device: model.device,
            ..GenerateRequest::new(condition, [frames, size.h, size.w])
        };
        Ok(Plan { request, fps: args.fps.unwrap_or(geometry.fps), groups, num })
    }

    /// Says on stderr what is about to be drawn, and what is doubtful about it.
    pub(crate) fn announce(&self, model: &Model) {
        let request = &self.request;
        let (frames, h, w) = (request.frames, request.height, request.width);
        let step = model.checkpoint.step().map_or(String::new(), |n| format!(" of step {n}"));
        tracing::info!(
            "drawing {} of {frames} frames at {h}x{w} in {} steps with the {} weights{step} on {}, {}",
            plural(request.condition.clips(), "clip"),
            request.steps,
            model.loaded.weights,
            device_name(model.device),
            plural(vd_torch::threads(), "thread"),
        );
        if model.config().cond_dim.is_none() {
            return;
        }
        let null = model.checkpoint.null();
        if self.groups.is_none() {
            match null {
                NullEmbedding::Trained => tracing::info!(
                    "neither --prompt nor --cond: drawing from the null embedding, whatever the model has learned"
                ),
                NullEmbedding::Untrained => tracing::warn!(
                    "neither --prompt nor --cond: drawing from the null embedding, which this model's training (text.drop = 0) never saw; expect little"
                ),
                NullEmbedding::Unknown => tracing::warn!(
                    "neither --prompt nor --cond: drawing from the null embedding, which may be untrained in a converted model"
                ),
            }
        } else if request.guidance != 1.0 && null == NullEmbedding::Unknown {
            tracing::warn!(
                "--cfg-scale {}: nothing says that the training of this converted model ever dropped its conditioning; if it did not, its null embedding is untrained and guidance leads astray",
                request.guidance
            );
        }
    }

    /// How many clips stand side by side where they share a picture.
    pub(crate) fn columns(&self) -> usize {
        match self.groups() {
            0 | 1 => (self.num as f64).sqrt().ceil() as usize,
            _ => self.num,
        }
    }

    /// The prompt of a clip.
    pub(crate) fn prompt(&self, clip: usize) -> Option<&str> {
        match &self.groups {
            Some(Groups::Prompts(prompts)) => prompts.get(clip / self.num).map(String::as_str),
            _ => None,
        }
    }

    /// The row of --cond of a clip.
    pub(crate) fn row(&self, clip: usize) -> Option<usize> {
        matches!(self.groups, Some(Groups::Rows(_))).then_some(clip / self.num)
    }

    fn groups(&self) -> usize {
        match &self.groups {
            Some(Groups::Prompts(prompts)) => prompts.len(),
            Some(Groups::Rows(rows)) => *rows,
            None => 0,
        }
    }
}

fn check_guidance(args: &SampleArgs, model: &Model) -> Result<()> {
    let scale = args.cfg_scale;
    if scale == 1.0 {
        return Ok(());
    }
    if model.config().cond_dim.is_none() {
        bail!(
            "--cfg-scale {scale}: this model is unconditional, there is nothing to guide towards; \
             leave --cfg-scale out, or use a model trained with a [text] section"
        );
    }
    if args.prompt.is_empty() && args.cond.is_none() {
        bail!("--cfg-scale {scale}: guidance needs something to guide towards, --prompt or --cond");
    }
    if model.checkpoint.null() == NullEmbedding::Untrained {
        bail!(
            "--cfg-scale {scale}: guidance pulls away from the null embedding, but this model was \
             trained with text.drop = 0 and has never seen it; leave --cfg-scale out, or train with \
             text.drop = 0.1"
        );
    }
    Ok(())
}

fn steps(args: &SampleArgs, model: &Model) -> Result<usize> {
    let entries = model.diffusion.schedule().steps();
    match (args.steps.map(|n| n as usize), entries) {
        (Some(steps), Some(entries)) if steps > entries => {
            bail!("--steps {steps}: this model's schedule has {entries} steps, give at most those")
        }
        (Some(steps), _) => Ok(steps),
        (None, entries) => Ok(match args.sampler {
            SamplerName::Ddim => entries.map_or(DDIM_STEPS, |n| n.min(DDIM_STEPS)),
            SamplerName::Ddpm => entries.unwrap_or(DDPM_STEPS),
        }),
    }
}

fn condition(args: &SampleArgs, model: &Model, num: usize) -> Result<(Condition, Option<Groups>)> {
    if args.prompt.is_empty() && args.cond.is_none() {
        return Ok((Condition::Nothing { clips: num }, None));
    }
    let flag = if args.cond.is_some() { "--cond" } else { "--prompt" };
    let Some(width) = model.config().cond_dim else {
        bail!(
            "{flag}: this model is unconditional and takes no prompts; leave {flag} out, or use a \
             model trained with a [text] section"
        );
    };
    if let Some(path) = &args.cond {
        let rows = rows(path, width)?;
        let n = rows.size()[0] as usize;
        let repeated = rows.f_repeat_interleave_self_int(num as i64, 0, None)?;
        return Ok((Condition::Embeddings(repeated), Some(Groups::Rows(n))));
    }
    if model.checkpoint.config.text.is_none() {
        bail!(
            "--prompt: nothing says how this converted model's prompts were encoded; give their \
             embeddings with --cond instead, {width} numbers a row"
        );
    }
    let prompts = args.prompt.clone();
    let each = prompts.iter().flat_map(|prompt| std::iter::repeat_n(prompt.clone(), num));
    Ok((Condition::Prompts(each.collect()), Some(Groups::Prompts(prompts))))
}

fn rows(path: &Path, width: i64) -> Result<Tensor> {
    let rows = read_embeddings(path).context("--cond")?;
    let got = rows.size()[1];
    ensure!(
        got == width,
        "--cond {}: rows of {got} numbers, but this model takes {width}",
        path.display()
    );
    Ok(rows)
}
