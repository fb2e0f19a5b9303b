//! iPNDM.

use tch::Tensor;
use vd_tensor_ops::Noise;

use super::moves::{hold_eps_sum, hold_x0};
use super::{Interval, Sampler, Step};
use crate::Result;
use crate::error::order_in;

/// The Adams-Bashforth rule on eps-hat, with the weights for even steps even if the steps are not;
/// the first steps are of lower order.
///
/// # Range
/// `order` in 1..=4: the number of eps-hat used, including the newest.
///
/// # Reference
/// Zhang & Chen 2022 (iPNDM), arXiv:2204.13902, after Liu et al. 2022, arXiv:2202.09778. Order 2,
/// since steps are not even in sigma / alpha; one evaluation per step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipndm {
    /// The number of eps-hat used.
    pub order: usize,
}

impl Ipndm {
    pub(super) fn validate(self) -> Result<()> {
        order_in("sampler ipndm: order", self.order, 4)
    }
}

impl Sampler for Ipndm {
    fn step(&self, x: &Tensor, over: &Interval<'_>, _: &mut dyn Noise) -> Result<Step> {
        self.validate()?;
        let (from, to) = (over.from, over.to);
        let x0 = over.denoise(x, from)?;
        if from.alpha == 0.0 {
            return Ok(Step::new(hold_x0(x, &x0, from, to), x0));
        }
        let recent = over.recent(x, &x0, self.order);
        Ok(Step::new(hold_eps_sum(&recent, even_steps(recent.len()), to), x0))
    }
}

/// Weights of up to four eps-hat, newest first, as if steps were even.
pub(super) fn even_steps(n: usize) -> &'static [f64] {
    match n {
        0 | 1 => &[1.0],
        2 => &[3.0 / 2.0, -1.0 / 2.0],
        3 => &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
        _ => &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
    }
}
