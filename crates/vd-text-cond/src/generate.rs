//! The call from prompt to video.

use std::ops::ControlFlow;

use tch::{Device, Kind, Tensor};
use vd_diffusion::{
    Denoiser, FrameMask, Known, NoiseLevel, Reconstruction, Sampler, SeededNoise, Signal,
    Thresholded, sample, start,
};
use vd_unet3d::Cond;

use crate::{
    Condition, Error, GenerateRequest, Generator, KnownParts, NullEmbedding, Result, TextEncoder,
};

/// Where there is no noise.
const CLEAN: NoiseLevel = NoiseLevel { t: 0.0, alpha: 1.0, sigma: 0.0 };

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

/// Draws videos: conditioning, guidance, thresholding, known parts, sampling.
///
/// `on_step` sees every step, and stops the call by `ControlFlow::Break`.
///
/// # Shapes
/// Result: n c f h w, f32 on the CPU, in [-1, 1]
/// # Errors
/// Prompts or embeddings for a model that cannot take them; guidance for a model whose conditioning
/// was never dropped in training; known parts that do not fit the clips; whatever the sampler or
/// the network refuses.
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

impl Batch {
    /// Its rows of a tensor that has one for each clip.
    fn rows(self, of: &Tensor) -> Result<Tensor> {
        Ok(of.f_narrow(0, self.first as i64, self.len as i64)?)
    }
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
    let shape = [len as i64, request.channels, request.frames, request.height, request.width];
    let denoiser = denoiser(model, request, cond, batch, &shape)?;
    let mut noise = SeededNoise::new(request.seed, request.first_sample + first as u64);
    let like = Tensor::f_empty(shape, (Kind::Float, request.device))?;
    let x = start(&like, grid[0], &mut noise);
    let schedule = model.diffusion.schedule();
    let mut on_step = |index: usize, _: &vd_diffusion::Step| report(index);
    let x0 = sample(sampler, &denoiser, schedule, grid, x, &mut noise, &mut on_step)?;
    // A grid may end with a little noise; what replaces it has none.
    let x0 = denoiser.constrain(x0, CLEAN, &mut noise)?;
    Ok(x0.f_clamp(-1.0, 1.0)?.f_to_device(Device::Cpu)?)
}

/// The network, guided, thresholded, and pulled to what is known of these clips.
fn denoiser<'a>(
    model: &Generator<'a>,
    request: &GenerateRequest,
    cond: &Cond,
    batch: Batch,
    shape: &[i64],
) -> Result<Box<dyn Denoiser + 'a>> {
    let cond = match &cond.pooled {
        Some(rows) => Cond::pooled(batch.rows(rows)?),
        None => Cond::none(),
    };
    let signal = Signal { cond, scale: request.guidance };
    let diffusion = model.diffusion;
    let guided =
        diffusion.guided_by(model.backbone, vec![signal], FrameMask::All, &request.rule)?;
    let thresholded = Thresholded::new(guided, request.threshold)?;
    let Some(KnownParts { terms, config }) = &request.known else {
        return Ok(Box::new(thresholded));
    };
    let terms = terms.iter().map(|term| known(term, request, batch)).collect::<Result<_>>()?;
    Ok(Box::new(Reconstruction::new(thresholded, terms, shape, *config)?))
}

/// What is known of the clips of one batch, where they are drawn.
fn known(term: &Known, request: &GenerateRequest, batch: Batch) -> Result<Known> {
    let clips = request.condition.clips() as i64;
    let there = |x: &Tensor, kind: Kind| -> Result<Tensor> {
        let rows = match x.size().first() {
            Some(&n) if n == clips => batch.rows(x)?,
            _ => x.shallow_clone(),
        };
        Ok(rows.f_to_device(request.device)?.f_to_kind(kind)?)
    };
    let x0 = there(&term.x0, Kind::Float)?;
    // A mask of fewer axes has none for the clips.
    let mask = term.mask.as_ref().map(|mask| match mask.dim() == term.x0.dim() {
        true => there(mask, mask.kind()),
        false => Ok(mask.f_to_device(request.device)?),
    });
    Ok(Known {
        x0,
        frames: term.frames.clone(),
        down: term.down,
        mask: mask.transpose()?,
        weight: term.weight,
    })
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
