//! DEIS.

use tch::Tensor;
use vd_tensor_ops::Noise;

use super::moves::{hold_eps_sum, hold_x0};
use super::polynomial::mean_weights;
use super::{Interval, LastSteps, Sampler, Step};
use crate::Result;
use crate::error::order_in;

/// The Adams-Bashforth rule on eps-hat, with polynomials in log-SNR.
///
/// # Range
/// `order` in 1..=4: the number of eps-hat used, including the newest.
///
/// # Reference
/// Zhang & Chen 2022, section 3, arXiv:2204.13902, in the log-rho form of diffusers. Order `order`,
/// up to 3; one evaluation per step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deis {
    /// The number of eps-hat used.
    pub order: usize,
    /// Order of the last steps.
    pub last: LastSteps,
}

impl Deis {
    /// Falls to first order on the last step.
    pub fn new(order: usize) -> Self {
        Deis { order, last: LastSteps::Fall }
    }

    pub(super) fn validate(self) -> Result<()> {
        order_in("sampler deis: order", self.order, 4)
    }
}

impl Sampler for Deis {
    fn step(&self, x: &Tensor, over: &Interval<'_>, _: &mut dyn Noise) -> Result<Step> {
        self.validate()?;
        let (from, to) = (over.from, over.to);
        let x0 = over.denoise(x, from)?;
        let recent = over.recent(x, &x0, self.last.order(self.order, over));
        if let [_] = recent[..] {
            return Ok(Step::new(hold_x0(x, &x0, from, to), x0));
        }
        let points: Vec<_> = recent.iter().map(|p| p.at.half_log_snr()).collect();
        let range = (from.half_log_snr(), to.half_log_snr());
        // sigma / alpha is exp of minus half the log-SNR.
        let weights = mean_weights(&points, range, |l| (range.0 - l).exp());
        Ok(Step::new(hold_eps_sum(&recent, &weights, to), x0))
    }
}
