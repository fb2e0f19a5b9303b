//! The call from prompt to video.

use std::ops::ControlFlow;

use tch::{Device, Kind, Tensor};
use vd_diffusion::{
    Diffusion, FrameMask, NoiseLevel, Sampler, SamplerConfig, SeededNoise, Spacing, Threshold,
    Thresholded, sample, start,
};
use vd_unet3d::{Backbone, Cond};

use crate::{Error, Result, TextEncoder};

/// Whether a network's null embedding, which guidance pulls away from, means anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NullEmbedding {
    /// Conditioning was dropped in training.
    Trained,
    /// It never was: guidance is refused.
    Untrained,
    /// Nobody knows (a checkpoint from elsewhere): guidance is tried.
    Unknown,
}

/// A trained model and what belongs to it.
#[derive(Debug, Clone, Copy)]
pub struct Generator<'a> {
    /// The network.
    pub backbone: &'a dyn Backbone,
    /// The process that it was trained under.
    pub diffusion: &'a Diffusion,
    /// What encodes its prompts.
    pub encoder: Option<&'a dyn TextEncoder>,
    /// The state of its null embedding.
    pub null: NullEmbedding,
}

/// What the clips are to show: one entry a clip.
#[derive(Debug)]
pub enum Condition {
    /// Nothing in particular; a conditional model uses its null embedding.
    Nothing {
        /// Number of clips.
        clips: usize,
    },
    /// A prompt for each clip.
    Prompts(Vec<String>),
    /// An embedding for each clip.
    ///
    /// # Shapes
    /// n d
    Embeddings(Tensor),
}

impl Condition {
    /// The number of clips.
    pub fn clips(&self) -> usize {
        match self {
            Condition::Nothing { clips } => *clips,
            Condition::Prompts(prompts) => prompts.len(),
            Condition::Embeddings(rows) => {
                rows.size().first().map_or(0, |n| usize::try_from(*n).unwrap_or(0))
            }
        }
    }
}

/// What to draw, and how.
#[derive(Debug)]
pub struct GenerateRequest {
    /// What the clips show; says how many there are.
    pub condition: Condition,
    /// Frames of each clip.
    pub frames: i64,
    /// Height in pixels.
    pub height: i64,
    /// Width in pixels.
    pub width: i64,
    /// Channels.
    pub channels: i64,
    /// Sampling steps.
    pub steps: usize,
    /// How each step is made.
    pub sampler: SamplerConfig,
    /// Where the steps lie.
    pub spacing: Spacing,
    /// Guidance scale; 1 is none.
    pub guidance: f64,
    /// How x0-hat is kept in [-1, 1].
    pub threshold: Threshold,
    /// Names the noise, together with the clip's number.
    pub seed: u64,
    /// The number of the first clip. Clip k of a seed has the same noise in whatever batch it is
    /// drawn.
    pub first_sample: u64,
    /// The most clips that are drawn at a time.
    pub batch: usize,
    /// Where the network's parameters are.
    pub device: Device,
}

impl GenerateRequest {
    /// One unconditional clip a batch of 4, in 50 steps of DDIM, seed 0, on the CPU: to be changed
    /// with `..`.
    pub fn new(condition: Condition, [frames, height, width]: [i64; 3]) -> Self {
        GenerateRequest {
            condition,
            frames,
            height,
            width,
            channels: 3,
            steps: 50,
            sampler: SamplerConfig::default(),
            spacing: Spacing::default(),
            guidance: 1.0,
            threshold: Threshold::default(),
            seed: 0,
            first_sample: 0,
            batch: 4,
            device: Device::Cpu,
        }
    }

    fn validate(&self) -> Result<()> {
        let refuse =
            |what, got: String| Err(Error::Value { what, expected: "at least 1".to_owned(), got });
        let counts = [
            ("number of clips", self.condition.clips() as i64),
            ("frames", self.frames),
            ("height", self.height),
            ("width", self.width),
            ("channels", self.channels),
            ("clips in a batch", i64::try_from(self.batch).unwrap_or(i64::MAX)),
        ];
        match counts.into_iter().find(|(_, n)| *n < 1) {
            Some((what, n)) => refuse(what, n.to_string()),
            None => Ok(()),
        }
    }
}

/// How far a call of [`generate`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Clips that are done.
    pub clips: usize,
    /// Clips in all.
    pub of_clips: usize,
    /// Steps that the clips now being drawn have behind them, from 1.
    pub step: usize,
    /// Steps that each clip takes.
    pub of_steps: usize,
}

/// Draws videos: conditioning, guidance, thresholding, sampling.
///
/// `on_step` sees every step, and stops the call by `ControlFlow::Break`.
///
/// # Shapes
/// Result: n c f h w, f32 on the CPU, in [-1, 1]
/// # Errors
/// Prompts or embeddings for a model that cannot take them; guidance for a model whose conditioning
/// was never dropped in training; whatever the sampler or the network refuses.
pub fn generate(
    model: &Generator<'_>,
    request: &GenerateRequest,
    on_step: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Tensor> {
    request.validate()?;
    let cond = condition(model, request)?;
    check_guidance(model, &cond, request.guidance)?;
    let grid = request.spacing.grid(model.diffusion.schedule(), request.steps)?;
    let sampler = request.sampler.build()?;
    let of_clips = request.condition.clips();
    let mut videos = Vec::new();
    for first in (0..of_clips).step_by(request.batch) {
        let batch = Batch { first, len: request.batch.min(of_clips - first) };
        let mut report = |step: usize| {
            on_step(Progress { clips: first, of_clips, step: step + 1, of_steps: request.steps })
        };
        videos.push(draw(model, request, &cond, batch, &grid, sampler.as_ref(), &mut report)?);
    }
    Ok(Tensor::f_cat(&videos, 0)?)
}

/// A run of clips that are drawn together.
#[derive(Clone, Copy)]
struct Batch {
    first: usize,
    len: usize,
}

fn draw(
    model: &Generator<'_>,
    request: &GenerateRequest,
    cond: &Cond,
    batch: Batch,
    grid: &[NoiseLevel],
    sampler: &dyn Sampler,
    report: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Tensor> {
    let Batch { first, len } = batch;
    let cond = match &cond.pooled {
        Some(rows) => Cond::pooled(rows.f_narrow(0, first as i64, len as i64)?),
        None => Cond::none(),
    };
    let guided = model.diffusion.guided(model.backbone, cond, FrameMask::All, request.guidance)?;
    let denoiser = Thresholded::new(guided, request.threshold)?;
    let mut noise = SeededNoise::new(request.seed, request.first_sample + first as u64);
    let shape = [len as i64, request.channels, request.frames, request.height, request.width];
    let like = Tensor::f_empty(shape, (Kind::Float, request.device))?;
    let x = start(&like, grid[0], &mut noise);
    let schedule = model.diffusion.schedule();
    let mut on_step = |index: usize, _: &vd_diffusion::Step| report(index);
    let x0 = sample(sampler, &denoiser, schedule, grid, x, &mut noise, &mut on_step)?;
    Ok(x0.f_clamp(-1.0, 1.0)?.f_to_device(Device::Cpu)?)
}

/// The conditioning of all clips.
fn condition(model: &Generator<'_>, request: &GenerateRequest) -> Result<Cond> {
    let conditional = model.backbone.is_conditional();
    match &request.condition {
        Condition::Nothing { .. } => Ok(Cond::none()),
        Condition::Prompts(_) if !conditional => Err(Error::Unconditional("prompts")),
        Condition::Embeddings(_) if !conditional => Err(Error::Unconditional("embeddings")),
        Condition::Prompts(prompts) => {
            let encoder = model.encoder.ok_or(Error::NoEncoder)?;
            let prompts: Vec<_> = prompts.iter().map(String::as_str).collect();
            encoder.encode(&prompts, request.device)
        }
        Condition::Embeddings(rows) => {
            let width = model.encoder.map(TextEncoder::width);
            let size = rows.size();
            if size.len() != 2 || width.is_some_and(|width| size[1] != width) {
                let d = width.map_or("d".to_owned(), |width| width.to_string());
                return Err(Error::Value {
                    what: "embeddings",
                    expected: format!("n rows of {d} values, one row a clip"),
                    got: format!("shape {size:?}"),
                });
            }
            Ok(Cond::pooled(rows.f_to_kind(Kind::Float)?.f_to_device(request.device)?))
        }
    }
}

fn check_guidance(model: &Generator<'_>, cond: &Cond, scale: f64) -> Result<()> {
    if scale == 1.0 || !model.backbone.is_conditional() || cond.pooled.is_none() {
        // What is wrong beyond that, guidance itself says.
        return Ok(());
    }
    match model.null {
        NullEmbedding::Untrained => Err(Error::NeverDropped { scale }),
        NullEmbedding::Trained | NullEmbedding::Unknown => Ok(()),
    }
}
