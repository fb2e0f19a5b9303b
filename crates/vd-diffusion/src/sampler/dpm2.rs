//! DPM-Solver-2.

use tch::Tensor;
use vd_tensor_ops::Noise;

use super::moves::{hold_eps, hold_x0};
use super::{Interval, Sampler, Step};
use crate::Result;

/// The longest step, in half the log-SNR, that uses a midpoint: errors of x0-hat there are
/// amplified by exp(half of that) = 12.
const LONGEST: f64 = 5.0;

/// The midpoint rule on eps-hat, with the midpoint at the mean log-SNR.
///
/// A step over more than 10 in log-SNR, from alpha = 0 or to sigma = 0, is a DDIM step.
///
/// # Reference
/// Lu et al. 2022, algorithm 1 (DPM-Solver-2, r = 1/2), arXiv:2206.00927; as in k-diffusion, where
/// it is `sample_dpm_2`. Order 2; two evaluations per step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dpm2;

impl Sampler for Dpm2 {
    fn step(&self, x: &Tensor, over: &Interval<'_>, _: &mut dyn Noise) -> Result<Step> {
        let (from, to) = (over.from, over.to);
        let x0 = over.denoise(x, from)?;
        if over.half_log_snr_gained() > LONGEST {
            return Ok(Step::new(hold_x0(x, &x0, from, to), x0));
        }
        let middle = over.schedule.at_log_snr(0.5 * (from.log_snr() + to.log_snr()));
        let x_middle = hold_x0(x, &x0, from, middle);
        let eps = middle.eps(&x_middle, &over.denoise(&x_middle, middle)?);
        Ok(Step::new(hold_eps(x, &eps, from, to), x0))
    }
}
