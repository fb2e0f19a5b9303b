//! The sampling loop.

use std::ops::ControlFlow;

use tch::Tensor;
use vd_tensor_ops::Noise;

use super::checked::{Checked, Looks};
use super::moves::raise;
use super::watch::Watch;
use super::{History, Interval, Past, Sampler, Step};
use crate::grid::{check_grid, falls};
use crate::{Denoiser, Error, NoiseLevel, Progress, Result, Schedule};

/// A step that a run has just taken, as passed to `on_step`.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct StepTaken<'a> {
    /// Its index, from 0.
    pub index: usize,
    /// Number of steps of the run, including repeated ones of a restart.
    pub of: usize,
    /// The level it started at.
    pub from: NoiseLevel,
    /// The level it ended at.
    pub to: NoiseLevel,
    /// Its result.
    pub step: &'a Step,
}

/// An `on_step` that never stops the run.
pub fn keep_going(_taken: &StepTaken<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The initial noise of sampling, shaped like `like`, at the first level of a grid.
///
/// Its standard deviation is that of noised data of variance 1: exactly 1 for variance-preserving
/// schedules.
pub fn start(like: &Tensor, at: NoiseLevel, noise: &mut dyn Noise) -> Tensor {
    noise.normal(like) * at.alpha.hypot(at.sigma)
}

/// Takes `x` through the levels of a grid, from the noisiest to the last.
///
/// `on_step` is called after every step, with its index, levels and result: use it for a progress
/// bar, for a preview (`step.x0` is the network's current estimate of the result), and to cancel by
/// returning `ControlFlow::Break`. Gradients are disabled during the run; a denoiser that needs
/// them enables them itself.
///
/// Each run has its own noise path: [`Noise::new_path`] is called at the beginning and after every
/// planned rise in noise, so that no increment is used twice.
///
/// # Shapes
/// `x`: b ..., at the first level; result: the same, at the last
///
/// # Errors
/// A grid of fewer than two levels, with noise that does not fall, or with a t outside [0, 1]; an
/// `x` that is not f32 or f64; any error of the denoiser; an x0-hat, a state or a noise draw of the
/// wrong shape, kind or device; [`Error::NotFinite`] with the step and level of the first state
/// that is not finite (detected at once on the CPU, and at the end of the run on a GPU, to avoid
/// synchronisation); [`Error::Cancelled`] if `on_step` stopped the run.
pub fn sample(
    sampler: &dyn Sampler,
    denoiser: &dyn Denoiser,
    schedule: &dyn Schedule,
    grid: &[NoiseLevel],
    x: Tensor,
    noise: &mut dyn Noise,
    on_step: &mut dyn FnMut(&StepTaken<'_>) -> ControlFlow<()>,
) -> Result<Tensor> {
    check_grid(grid)?;
    crate::diffusion::check_kind("x", &x)?;
    let levels = sampler.plan(grid.to_vec());
    let (first, of) = check_plan(sampler, &levels)?;
    let _gradients_off = tch::no_grad_guard();
    let looks = Looks::of(&x);
    let mut noise = Checked::new(noise);
    let (mut past, mut index) = (History::default(), 0);
    noise.new_path();
    denoiser.follow(Progress::Sampling { steps: of });
    let mut x = constrained(denoiser, x, first, &mut noise, &looks)?;
    let mut watch = Watch::new(of, x.device());
    watch.see(&x, first)?;
    for pair in levels.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        if !falls(from, to) {
            denoiser.follow(Progress::Raised);
            let raised = raise(&x, from, to, &mut noise);
            x = constrained(denoiser, raised, to, &mut noise, &looks)?;
            past = History::default();
            noise.new_path();
            continue;
        }
        let over = Interval { from, to, index, of, denoiser, schedule, past: &past };
        let step = sampler.step(&x, &over, &mut noise);
        noise.fault()?;
        let mut step = step?;
        denoiser.follow(Progress::Step);
        step.x = constrained(denoiser, step.x, to, &mut noise, &looks)?;
        watch.see(&step.x, to)?;
        if on_step(&StepTaken { index, of, from, to, step: &step }).is_break() {
            return Err(Error::Cancelled { steps: index + 1 });
        }
        let (at, start) = step.start.unwrap_or((from, x));
        past.push(Past { at, x: start, x0: step.x0 });
        x = step.x;
        index += 1;
    }
    watch.end()?;
    Ok(x)
}

/// A new state after the denoiser's constraint, checked to match the previous ones in shape, kind
/// and device.
fn constrained(
    denoiser: &dyn Denoiser,
    x: Tensor,
    at: NoiseLevel,
    noise: &mut Checked<'_>,
    looks: &Looks,
) -> Result<Tensor> {
    let x = denoiser.constrain(x, at, noise);
    // The constraint may fail because refused noise was replaced by zeros: report the noise first.
    noise.fault()?;
    let x = x?;
    looks.check("state, as the sampler and `Denoiser::constrain` return it", &x)?;
    Ok(x)
}

/// The first of the levels that a sampler has planned, and how many of its steps remove noise.
fn check_plan(sampler: &dyn Sampler, levels: &[NoiseLevel]) -> Result<(NoiseLevel, usize)> {
    // A level that is not a number would pass for a rise, and be crossed by adding noise.
    let legal = |at: &NoiseLevel| {
        let number = |x: f64| x.is_finite() && x >= 0.0;
        (0.0..=1.0).contains(&at.t) && number(at.alpha) && number(at.sigma)
    };
    if let Some(i) = levels.iter().position(|at| !legal(at)) {
        let at = levels[i];
        return Err(Error::Grid(format!(
            "{sampler:?} planned {at:?}, which is no level, at place {i}"
        )));
    }
    let of = levels.windows(2).filter(|pair| falls(pair[0], pair[1])).count();
    match levels.first() {
        Some(first) if of > 0 => Ok((*first, of)),
        _ => Err(Error::Grid(format!(
            "{sampler:?} planned {} levels, none with less noise than the one before it",
            levels.len()
        ))),
    }
}
