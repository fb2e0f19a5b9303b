//! DDIM inversion: from a sample back to its noise.

use std::ops::ControlFlow;

use tch::Tensor;

use crate::grid::check_grid;
use crate::sampler::Watch;
use crate::sampler::moves::hold_eps;
use crate::{
    Denoiser, Error, History, Interval, NoiseLevel, Progress, Result, Schedule, Step, StepTaken,
};

/// DDIM inversion: takes `x0` up through the levels of a grid, from the last to the first.
///
/// The grid is the one used for sampling, the noisiest level first. Each step holds the eps-hat of
/// its cleaner end, whereas [`Ddim`](crate::Ddim) sampling holds that of the noisier end: sampling
/// back reproduces `x0` up to an error of first order in the step length. At a clean end (sigma =
/// 0), which a network is never shown, eps-hat is evaluated at the next level.
///
/// `on_step` gets every step with its number and levels; it stops the run by returning
/// `ControlFlow::Break`. Gradients are disabled during the run, and constraints are not applied.
///
/// # Shapes
/// `x0`: b ..., at the last level of the grid; result: the same, at the first
///
/// # Errors
/// A grid of fewer than two levels, with noise that does not fall, with a t outside [0, 1], or with
/// only its clean and its signal-free end; an `x0` that is not f32 or f64; any error of the
/// denoiser; [`Error::NotFinite`] as in [`sample`](crate::sample); [`Error::Cancelled`] if
/// `on_step` stopped the run.
///
/// # Reference
/// Song, Meng & Ermon 2020, section 4.3, arXiv:2010.02502. Order 1; one evaluation per step.
pub fn invert(
    denoiser: &dyn Denoiser,
    schedule: &dyn Schedule,
    grid: &[NoiseLevel],
    x0: Tensor,
    on_step: &mut dyn FnMut(&StepTaken<'_>) -> ControlFlow<()>,
) -> Result<Tensor> {
    check_grid(grid)?;
    crate::diffusion::check_kind("x0", &x0)?;
    let _gradients_off = tch::no_grad_guard();
    let (of, past) = (grid.len() - 1, History::default());
    denoiser.follow(Progress::Inverting { steps: of });
    let mut x = x0;
    let mut watch = Watch::new(of, x.device());
    watch.see(&x, grid[of])?;
    for (index, pair) in grid.windows(2).rev().enumerate() {
        let (from, to) = (pair[1], pair[0]);
        let over = Interval { from, to, index, of, denoiser, schedule, past: &past };
        let (eps, x0) = direction(&x, &over)?;
        let step = Step::new(hold_eps(&x, &eps, from, to), x0);
        denoiser.follow(Progress::Step);
        watch.see(&step.x, to)?;
        if on_step(&StepTaken { index, of, from, to, step: &step }).is_break() {
            return Err(Error::Cancelled { steps: index + 1 });
        }
        x = step.x;
    }
    watch.end()?;
    Ok(x)
}

/// The eps-hat and the x0-hat held by a step towards noise.
fn direction(x: &Tensor, over: &Interval<'_>) -> Result<(Tensor, Tensor)> {
    let (from, to) = (over.from, over.to);
    if from.sigma > 0.0 {
        let x0 = over.denoise(x, from)?;
        return Ok((from.eps(x, &x0), x0));
    }
    if to.alpha == 0.0 {
        let got = format!("one from {from:?} to {to:?}");
        let expected = "a level between the clean end and the one without signal";
        return Err(Error::value("grid of an inversion", expected, got));
    }
    // The state that zero noise makes of clean data.
    let x = hold_eps(x, &x.zeros_like(), from, to);
    let x0 = over.denoise(&x, to)?;
    Ok((to.eps(&x, &x0), x0))
}
