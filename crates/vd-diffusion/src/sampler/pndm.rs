//! PNDM.

use tch::Tensor;
use vd_tensor_ops::Noise;

use super::ipndm::even_steps;
use super::moves::{hold_eps, hold_x0};
use super::{Interval, Sampler, Step};
use crate::Result;

/// How [`Pndm`] takes its first steps, before it has four eps-hat to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WarmUp {
    /// The first step averages the eps-hat of both its ends, the next two look back at what there
    /// is: `skip_prk_steps=True` in diffusers, as pipelines of latent diffusion have it. One
    /// evaluation more than there are steps.
    #[default]
    Linear,
    /// Three steps of Runge and Kutta, halfway in t: the paper's, `skip_prk_steps=False` in
    /// diffusers. Nine evaluations more than there are steps.
    RungeKutta,
}

/// Adams and Bashforth's rule of four eps-hat with the weights of even steps, after a warm-up.
///
/// # Reference
/// Liu et al. 2022, equations 9 to 12, algorithm 2, arXiv:2202.09778. Order 2, since steps are not
/// even in sigma / alpha; one evaluation per step, more in the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pndm {
    /// How the first steps are taken.
    pub warm_up: WarmUp,
}

impl Sampler for Pndm {
    fn step(&self, x: &Tensor, over: &Interval<'_>, _: &mut dyn Noise) -> Result<Step> {
        let (from, to) = (over.from, over.to);
        let x0 = over.denoise(x, from)?;
        if from.alpha == 0.0 {
            return Ok(Step::new(hold_x0(x, &x0, from, to), x0));
        }
        let recent = over.recent(x, &x0, 4);
        let ends_clean = to.sigma == 0.0;
        let held = match self.warm_up {
            WarmUp::Linear if recent.len() == 1 && !ends_clean => {
                let eps = from.eps(x, &x0);
                let end = hold_eps(x, &eps, from, to);
                (eps + to.eps(&end, &over.denoise(&end, to)?)) * 0.5
            }
            WarmUp::RungeKutta if recent.len() < 4 && !ends_clean => {
                runge_kutta(x, &from.eps(x, &x0), over)?
            }
            _ => even_steps(&recent),
        };
        Ok(Step::new(hold_eps(x, &held, from, to), x0))
    }
}

/// The eps-hat to hold, from four evaluations.
fn runge_kutta(x: &Tensor, first: &Tensor, over: &Interval<'_>) -> Result<Tensor> {
    let (from, to) = (over.from, over.to);
    let middle = over.schedule.at(0.5 * (from.t + to.t));
    let eps_at = |at, held: &Tensor| -> Result<Tensor> {
        let x = hold_eps(x, held, from, at);
        Ok(at.eps(&x, &over.denoise(&x, at)?))
    };
    let second = eps_at(middle, first)?;
    let third = eps_at(middle, &second)?;
    let fourth = eps_at(to, &third)?;
    Ok((first + (second + third) * 2.0 + fourth) * (1.0 / 6.0))
}
