//! The only loop.

use std::ops::ControlFlow;

use tch::Tensor;
use vd_tensor_ops::Noise;

use super::checked::{Checked, Looks};
use super::moves::raise;
use super::watch::Watch;
use super::{History, Interval, Past, Sampler, Step};
use crate::grid::{check_grid, falls};
use crate::{Denoiser, Error, NoiseLevel, Progress, Result, Schedule};

/// A step that a run has just taken, as `on_step` is told of it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct StepTaken<'a> {
    /// Its number, from 0.
    pub index: usize,
    /// How many the run takes in all, those through the band of a restart included.
    pub of: usize,
    /// The level it started at.
    pub from: NoiseLevel,
    /// The level it ended at.
    pub to: NoiseLevel,
    /// What it found.
    pub step: &'a Step,
}

/// An `on_step` that looks at nothing and lets sampling run to its end.
pub fn keep_going(_taken: &StepTaken<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// The noise that sampling starts from, like `like`, at the first level of a grid.
///
/// Its spread is that of noised data of variance 1: exactly 1 where variance is preserved.
pub fn start(like: &Tensor, at: NoiseLevel, noise: &mut dyn Noise) -> Tensor {
    noise.normal(like) * at.alpha.hypot(at.sigma)
}

/// Takes `x` through the levels of a grid, from the noisiest to the last.
///
/// `on_step` is called after every step, with its number, its levels and what it found: the place
/// for a progress bar, for a preview (`step.x0` is what the network now takes the result to be),
/// and for cancelling, by `ControlFlow::Break`. Gradients are off meanwhile; a denoiser that
/// needs them turns them on for itself.
///
/// One run, one path: `noise` is asked for a new path ([`Noise::new_path`]) at the beginning and
/// after every rise that the sampler has planned, so that no increment is used twice.
///
/// # Shapes
/// `x`: b ..., at the first level; result: the same, at the last
///
/// # Errors
/// A grid of fewer than two levels, whose levels do not fall in noise or whose t leave [0, 1]; an
/// `x` that is not f32 or f64; whatever the denoiser refuses; an x0-hat, a state or a draw of noise
/// that is not of the size, kind and device it should have; [`Error::NotFinite`] with the step and
/// the level of the first state that is not finite (found at once on the CPU, at the end of the run
/// on a GPU, which is not waited for in between); [`Error::Cancelled`] where `on_step` broke off.
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
    let Some(first) = levels.first() else {
        return Err(Error::Grid(format!("{sampler:?} planned no levels at all")));
    };
    let of = levels.windows(2).filter(|pair| falls(pair[0], pair[1])).count();
    let _gradients_off = tch::no_grad_guard();
    let looks = Looks::of(&x);
    let mut noise = Checked::new(noise);
    let (mut past, mut index) = (History::default(), 0);
    noise.new_path();
    denoiser.follow(Progress::Sampling { steps: of });
    let mut x = constrained(denoiser, x, *first, &mut noise, &looks)?;
    let mut watch = Watch::new(of, x.device());
    watch.see(&x, *first)?;
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

/// A new state under the denoiser's constraint, checked to be a tensor like those before.
fn constrained(
    denoiser: &dyn Denoiser,
    x: Tensor,
    at: NoiseLevel,
    noise: &mut Checked<'_>,
    looks: &Looks,
) -> Result<Tensor> {
    let x = denoiser.constrain(x, at, noise);
    // Zeros in place of noise may be what the constraint fails at.
    noise.fault()?;
    let x = x?;
    looks.check("state, as the sampler and `Denoiser::constrain` return it", &x)?;
    Ok(x)
}
