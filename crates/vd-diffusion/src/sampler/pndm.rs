//! PNDM.

use tch::Tensor;
use vd_tensor_ops::Noise;

use super::ipndm::even_steps;
use super::moves::{hold_eps, hold_eps_sum, hold_x0};
use super::{Interval, Sampler, Step};
use crate::Result;

/// The longest first step, in half the log-SNR, that is averaged: errors of x0-hat at its end are
/// amplified by exp(that) / 2 = 10.
const LONGEST: f64 = 3.0;

/// The four-step Adams-Bashforth rule on eps-hat with the weights for even steps, after a first
/// step that averages the eps-hat of both its ends. A first step over more than 6 in log-SNR is a
/// DDIM step.
///
/// The paper warms up with three Runge-Kutta steps instead. These are not implemented: each needs
/// four evaluations, and from a level with hardly any signal they leave the range of the data.
///
/// # Reference
/// Liu et al. 2022, equations 11 and 12, arXiv:2202.09778, with the first steps of diffusers'
/// `skip_prk_steps=True`, as used by latent-diffusion pipelines. Order 2, since steps are not even
/// in sigma / alpha; one evaluation per step, plus one in total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pndm;

impl Sampler for Pndm {
    fn step(&self, x: &Tensor, over: &Interval<'_>, _: &mut dyn Noise) -> Result<Step> {
        let (from, to) = (over.from, over.to);
        let x0 = over.denoise(x, from)?;
        if from.alpha == 0.0 {
            return Ok(Step::new(hold_x0(x, &x0, from, to), x0));
        }
        let recent = over.recent(x, &x0, 4);
        let end = if recent.len() == 1 && over.half_log_snr_gained() <= LONGEST {
            let end = hold_x0(x, &x0, from, to);
            let held = (from.eps(x, &x0) + to.eps(&end, &over.denoise(&end, to)?)) * 0.5;
            hold_eps(x, &held, from, to)
        } else {
            hold_eps_sum(&recent, even_steps(recent.len()), to)
        };
        Ok(Step::new(end, x0))
    }
}
