//! What is to be drawn: the command line, the checkpoint's own defaults, and what neither allows.

use std::ops::Range;
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
    /// Frames, height and width.
    pub(crate) shape: [i64; 3],
    pub(crate) fps: f64,
    pub(crate) steps: usize,
    /// The most clips that are drawn at a time.
    pub(crate) batch: usize,
    sampler: SamplerConfig,
    threshold: Threshold,
    guidance: f64,
    seed: u64,
    /// What the clips show; each prompt or row is drawn `num` times.
    groups: Groups,
    num: usize,
}

#[derive(Debug)]
enum Groups {
    /// Nothing in particular.
    Nothing,
    Prompts(Vec<String>),
    /// n d
    Rows(Tensor),
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
        Ok(Plan {
            shape: [frames, size.h, size.w],
            fps: args.fps.unwrap_or(geometry.fps),
            steps: steps(args, model)?,
            batch: args.batch as usize,
            sampler: match args.sampler {
                SamplerName::Ddpm => SamplerConfig::DdpmSmall { gamma: 0.0 },
                SamplerName::Ddim => SamplerConfig::Ddim { eta: 0.0 },
            },
            threshold: match args.threshold {
                ThresholdName::Static => Threshold::Static,
                ThresholdName::Dynamic => Threshold::dynamic(),
                ThresholdName::None => Threshold::None,
            },
            guidance: args.cfg_scale,
            seed: args.seed,
            groups: groups(args, model)?,
            num: args.num as usize,
        })
    }

    /// The number of clips.
    pub(crate) fn clips(&self) -> usize {
        self.num * self.group_count().max(1)
    }

    /// The call that draws some of the clips.
    pub(crate) fn request(&self, clips: Range<usize>, model: &Model) -> Result<GenerateRequest> {
        let condition = match &self.groups {
            Groups::Nothing => Condition::Nothing { clips: clips.len() },
            Groups::Prompts(prompts) => Condition::Prompts(
                clips.clone().map(|clip| prompts[clip / self.num].clone()).collect(),
            ),
            Groups::Rows(rows) => {
                let picked: Vec<_> = clips.clone().map(|clip| (clip / self.num) as i64).collect();
                Condition::Embeddings(rows.f_index_select(0, &Tensor::f_from_slice(&picked)?)?)
            }
        };
        Ok(GenerateRequest {
            channels: model.config().channels,
            steps: self.steps,
            sampler: self.sampler.clone(),
            guidance: self.guidance,
            threshold: self.threshold,
            seed: self.seed,
            first_sample: clips.start as u64,
            batch: clips.len(),
            device: model.device,
            ..GenerateRequest::new(condition, self.shape)
        })
    }

    /// Says on stderr what is about to be drawn, and what is doubtful about it.
    pub(crate) fn announce(&self, model: &Model) {
        let [frames, h, w] = self.shape;
        let step = model.checkpoint.step().map_or(String::new(), |n| format!(" of step {n}"));
        tracing::info!(
            "drawing {} of {frames} frames at {h}x{w} in {} steps with the {} weights{step} on {}, {}",
            plural(self.clips(), "clip"),
            self.steps,
            model.loaded.weights,
            device_name(model.device),
            plural(vd_torch::threads(), "thread"),
        );
        if model.config().cond_dim.is_none() {
            return;
        }
        let null = model.checkpoint.null();
        if matches!(self.groups, Groups::Nothing) {
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
        } else if self.guidance != 1.0 && null == NullEmbedding::Unknown {
            tracing::warn!(
                "--cfg-scale {}: nothing says that the training of this converted model ever dropped its conditioning; if it did not, its null embedding is untrained and guidance leads astray",
                self.guidance
            );
        }
    }

    /// How many clips stand side by side where they share a picture.
    pub(crate) fn columns(&self) -> usize {
        match self.group_count() {
            0 | 1 => (self.num as f64).sqrt().ceil() as usize,
            _ => self.num,
        }
    }

    /// The prompt of a clip.
    pub(crate) fn prompt(&self, clip: usize) -> Option<&str> {
        match &self.groups {
            Groups::Prompts(prompts) => prompts.get(clip / self.num).map(String::as_str),
            _ => None,
        }
    }

    /// The row of --cond of a clip.
    pub(crate) fn row(&self, clip: usize) -> Option<usize> {
        matches!(self.groups, Groups::Rows(_)).then_some(clip / self.num)
    }

    fn group_count(&self) -> usize {
        match &self.groups {
            Groups::Nothing => 0,
            Groups::Prompts(prompts) => prompts.len(),
            Groups::Rows(rows) => rows.size()[0] as usize,
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

fn groups(args: &SampleArgs, model: &Model) -> Result<Groups> {
    if args.prompt.is_empty() && args.cond.is_none() {
        return Ok(Groups::Nothing);
    }
    let flag = if args.cond.is_some() { "--cond" } else { "--prompt" };
    let Some(width) = model.config().cond_dim else {
        bail!(
            "{flag}: this model is unconditional and takes no prompts; leave {flag} out, or use a \
             model trained with a [text] section"
        );
    };
    if let Some(path) = &args.cond {
        return Ok(Groups::Rows(rows(path, width)?));
    }
    if model.checkpoint.config.text.is_none() {
        bail!(
            "--prompt: nothing says how this converted model's prompts were encoded; give their \
             embeddings with --cond instead, {width} numbers a row"
        );
    }
    Ok(Groups::Prompts(args.prompt.clone()))
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
