//! The call from prompt to video.

use std::ops::ControlFlow;

use tch::{Device, Kind, Tensor};
use vd_diffusion::{
    Autoguided, BrownianNoise, Denoiser, FrameMask, Known, Noise, NoiseLevel, Reconstruction,
    Sampler, SeededNoise, StepTaken, Thresholded, check_grid, sample, start,
};

use crate::branches::Conditioning;
use crate::{GenerateRequest, Generator, Guide, KnownParts, NoiseSource, Result};

/// The noise level of clean data.
const CLEAN: NoiseLevel = NoiseLevel { t: 0.0, alpha: 1.0, sigma: 0.0 };

/// Progress of a call of [`generate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Number of finished clips.
    pub clips: usize,
    /// Number of clips in total.
    pub of_clips: usize,
    /// Steps done for the clips being sampled, from 1.
    pub step: usize,
    /// Steps per clip, including those of a restart.
    pub of_steps: usize,
}

/// Generates videos: conditioning, guidance, thresholding, known parts, sampling.
///
/// If the text and all signals have scale 1, the network gets them together, in a single branch.
/// Parts with another scale are guided, in the order of `signals`, with the text last; the parts at
/// scale 1 are given in every branch. Under [`Signals::Independent`](vd_diffusion::Signals), each
/// branch has only one of the guided parts, which is right if these are independent of each other:
/// at scales near 1 the result is a sum of outputs, not the output for all parts together. Under
/// [`Signals::Chained`](vd_diffusion::Signals), each branch adds a part to the previous ones, and
/// scales near 1 give nearly the output for all. Each guided signal costs one evaluation, and so
/// does the branch without any of them. Branches without the text use the negative prompt, if there
/// is one.
///
/// `on_step` is called after every step, and stops the call by returning `ControlFlow::Break`.
///
/// # Shapes
/// Result: n c f h w, f32 on the CPU, in [-1, 1] unless the request's `clamp` is off
/// # Errors
/// Prompts, embeddings or signals for a model that cannot take them; guidance for a model whose
/// conditioning was never dropped in training; known parts that do not fit the clips; any error of
/// the sampler or the network.
pub fn generate(
    model: &Generator<'_>,
    request: &GenerateRequest,
    on_step: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Tensor> {
    generate_with(model, None, request, on_step)
}

/// Generates videos as [`generate`] does, with additional guidance by a worse model
/// ([`Autoguided`]).
///
/// # Shapes
/// As [`generate`]
/// # Errors
/// As [`generate`]; a scale that is not finite.
pub fn generate_with(
    model: &Generator<'_>,
    guide: Option<Guide<'_>>,
    request: &GenerateRequest,
    on_step: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Tensor> {
    request.validate()?;
    let grid = request.spacing.grid(model.diffusion.schedule(), request.steps)?;
    let sampler = request.sampler.build()?;
    generate_by(model, guide, request, Sampling { sampler: &*sampler, grid: &grid }, on_step)
}

/// A sampler and noise levels of your own, for [`generate_by`].
#[derive(Debug, Clone, Copy)]
pub struct Sampling<'a> {
    /// The sampler.
    pub sampler: &'a dyn Sampler,
    /// Levels of the model's schedule, the noisiest first.
    pub grid: &'a [NoiseLevel],
}

/// Generates videos as [`generate_with`] does, by a sampler and levels of your own: `sampler`,
/// `spacing` and `steps` of the request are not used.
///
/// # Shapes
/// As [`generate`]
/// # Errors
/// As [`generate_with`].
pub fn generate_by(
    model: &Generator<'_>,
    guide: Option<Guide<'_>>,
    request: &GenerateRequest,
    Sampling { sampler, grid }: Sampling<'_>,
    on_step: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Tensor> {
    request.validate()?;
    check_grid(grid)?;
    let conditioning = Conditioning::new(model, request)?;
    let call = Call { model, guide, request, conditioning };
    let of_clips = request.condition.clips();
    let mut videos = Vec::new();
    for first in (0..of_clips).step_by(request.batch) {
        let batch = Batch { first, len: request.batch.min(of_clips - first) };
        let mut report = |taken: &StepTaken<'_>| {
            let (step, of_steps) = (taken.index + 1, taken.of);
            on_step(Progress { clips: first, of_clips, step, of_steps })
        };
        videos.push(call.draw(batch, grid, sampler, &mut report)?);
    }
    Ok(Tensor::f_cat(&videos, 0)?)
}

/// Consecutive clips that are sampled together.
#[derive(Clone, Copy)]
struct Batch {
    first: usize,
    len: usize,
}

impl Batch {
    /// Its rows of a tensor that has one row per clip.
    fn rows(self, of: &Tensor) -> Result<Tensor> {
        Ok(of.f_narrow(0, self.first as i64, self.len as i64)?)
    }
}

/// What all batches share.
struct Call<'a> {
    model: &'a Generator<'a>,
    guide: Option<Guide<'a>>,
    request: &'a GenerateRequest,
    conditioning: Conditioning,
}

impl Call<'_> {
    fn draw(
        &self,
        batch: Batch,
        grid: &[NoiseLevel],
        sampler: &dyn Sampler,
        on_step: &mut dyn FnMut(&StepTaken<'_>) -> ControlFlow<()>,
    ) -> Result<Tensor> {
        let request = self.request;
        let GenerateRequest { channels, frames, height, width, .. } = *request;
        let shape = [batch.len as i64, channels, frames, height, width];
        let denoiser = self.known(self.thresholded(batch)?, batch, &shape)?;
        let first = request.first_sample + batch.first as u64;
        let mut noise: Box<dyn Noise> = match request.noise {
            NoiseSource::Fresh => Box::new(SeededNoise::new(request.seed, first)),
            NoiseSource::Path => Box::new(BrownianNoise::new(request.seed, first)),
        };
        let noise = noise.as_mut();
        let like = Tensor::f_empty(shape, (Kind::Float, request.device))?;
        let x = start(&like, grid[0], noise);
        let schedule = self.model.diffusion.schedule();
        let x0 = sample(sampler, &denoiser, schedule, grid, x, noise, on_step)?;
        // A grid may end with a little noise; known values that replace it have none.
        let x0 = denoiser.constrain(x0, CLEAN, noise)?;
        let x0 = match (&request.ranges, request.clamp) {
            (_, false) => x0,
            (None, true) => x0.f_clamp(-1.0, 1.0)?,
            (Some(ranges), true) => ranges.clamp(&x0)?,
        };
        Ok(x0.f_to_device(Device::Cpu)?)
    }

    /// The network, guided and thresholded.
    fn thresholded(&self, batch: Batch) -> Result<Thresholded<Box<dyn Denoiser + '_>>> {
        let Call { model, request, conditioning, .. } = self;
        let rows = conditioning.rows(batch.first, batch.len)?;
        let main = rows.guide(model.diffusion, model.backbone, &request.rule)?;
        let denoiser: Box<dyn Denoiser> = match self.guide {
            None => Box::new(main),
            Some(Guide { backbone, diffusion, scale, within }) => {
                let guide = diffusion.denoiser(backbone, rows.known_to(backbone), FrameMask::All);
                Box::new(Autoguided::new(main, guide, scale, within)?)
            }
        };
        Ok(Thresholded::new(denoiser, request.threshold)?.with_ranges(request.ranges.clone()))
    }

    /// The same, guided towards the known parts of these clips.
    fn known<'d>(
        &self,
        denoiser: impl Denoiser + 'd,
        batch: Batch,
        shape: &[i64],
    ) -> Result<Box<dyn Denoiser + 'd>> {
        let Some(KnownParts { terms, config }) = &self.request.known else {
            return Ok(Box::new(denoiser));
        };
        let terms = terms.iter().map(|term| known(term, self.request, batch));
        let terms = terms.collect::<Result<_>>()?;
        Ok(Box::new(Reconstruction::new(denoiser, terms, shape, *config)?))
    }
}

/// The known parts of the clips of one batch, on the request's device.
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
    // A mask with fewer axes has none for the clips.
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
