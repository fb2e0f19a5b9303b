//! Linear multistep (LMS).

use tch::Tensor;
use vd_tensor_ops::Noise;

use super::moves::{hold_eps_sum, hold_x0};
use super::polynomial::mean_weights;
use super::{Interval, Sampler, Step};
use crate::Result;
use crate::error::order_in;

/// The Adams-Bashforth rule on eps-hat, with polynomials in sigma / alpha.
///
/// # Range
/// `order` in 1..=4: the number of eps-hat used, including the newest.
///
/// # Reference
/// `sample_lms` of k-diffusion; the same as rho-AB of Zhang & Chen 2022, section 4,
/// arXiv:2204.13902. Order `order`; one evaluation per step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lms {
    /// The number of eps-hat used.
    pub order: usize,
}

impl Lms {
    pub(super) fn validate(self) -> Result<()> {
        order_in("sampler lms: order", self.order, 4)
    }
}

impl Sampler for Lms {
    fn step(&self, x: &Tensor, over: &Interval<'_>, _: &mut dyn Noise) -> Result<Step> {
        self.validate()?;
        let (from, to) = (over.from, over.to);
        let x0 = over.denoise(x, from)?;
        if from.alpha == 0.0 {
            return Ok(Step::new(hold_x0(x, &x0, from, to), x0));
        }
        let recent = over.recent(x, &x0, self.order);
        let points: Vec<_> = recent.iter().map(|p| p.at.sigma / p.at.alpha).collect();
        let range = (from.sigma / from.alpha, to.sigma / to.alpha);
        let weights = mean_weights(&points, range, |_| 1.0);
        Ok(Step::new(hold_eps_sum(&recent, &weights, to), x0))
    }
}
