//! UniPC.

use serde::{Deserialize, Serialize};
use tch::Tensor;
use vd_tensor_ops::Noise;

use super::moves::{hold_x0, x0_sum};
use super::polynomial::mean_weights;
use super::{Interval, Past, Sampler, Step};
use crate::error::order_in;
use crate::{NoiseLevel, Result};

/// How [`UniPc`] averages the line through two x0-hat.
///
/// Affects only the predictor of order 2 and the corrector of order 1: the other rules follow from
/// their order conditions, whatever B(h) is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineWeight {
    /// By its exact integral.
    #[default]
    Exact,
    /// Half of B(h) = h, `solver_type="bh1"` in diffusers.
    Bh1,
    /// Half of B(h) = exp(h) - 1, `solver_type="bh2"` in diffusers.
    Bh2,
}

/// A predictor of order p and a corrector of order p + 1 that needs no additional evaluation.
///
/// The correction is added to the current state, so a Langevin step applied to that state is not
/// undone.
///
/// # Range
/// `order` p in 1..=4.
///
/// # Reference
/// Zhao et al. 2023, algorithms 1 and 2, arXiv:2302.04867. Order p + 1 (p = 2: 3, p = 3: 4); one
/// evaluation per step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UniPc {
    /// The order p of the predictor.
    pub order: usize,
    /// How a line is averaged.
    pub line: LineWeight,
}

impl UniPc {
    /// Exact weights throughout.
    pub fn new(order: usize) -> Self {
        UniPc { order, line: LineWeight::Exact }
    }

    pub(super) fn validate(self) -> Result<()> {
        order_in("sampler unipc: order", self.order, 4)
    }

    /// The weights of some states' x0-hat in a step between two levels. `first` is the index of the
    /// state at its start.
    fn weights(&self, points: &[Past], first: usize, from: NoiseLevel, to: NoiseLevel) -> Vec<f64> {
        // In units of the interval, from its start, where x0-hat is weighted by exp(h u).
        let (start, h) = (from.half_log_snr(), to.half_log_snr() - from.half_log_snr());
        let u: Vec<_> = points.iter().map(|p| (p.at.half_log_snr() - start) / h).collect();
        let reached = match self.line {
            LineWeight::Exact => None,
            LineWeight::Bh1 => Some(0.5 * h / -(-h).exp_m1()),
            LineWeight::Bh2 => Some(0.5),
        };
        match (reached, &u[..]) {
            (Some(reached), [_, _]) => {
                let other = 1 - first;
                let share = reached / u[other];
                let mut weights = vec![1.0 - share; 2];
                weights[other] = share;
                weights
            }
            _ => mean_weights(&u, (0.0, 1.0), |u| (h * u).exp()),
        }
    }

    /// The change that the x0-hat at the end of the last interval would have made to that
    /// interval's step.
    fn correction(&self, with: &[Past], from: NoiseLevel) -> Option<Tensor> {
        let before = with.get(1)?.at;
        let mut change = self.weights(with, 1, before, from);
        let without = self.weights(&with[1..], 0, before, from);
        change[1..].iter_mut().zip(without).for_each(|(weight, old)| *weight -= old);
        let gained = from.alpha - from.sigma / before.sigma * before.alpha;
        change.iter_mut().for_each(|weight| *weight *= gained);
        Some(x0_sum(with, &change))
    }
}

impl Sampler for UniPc {
    fn step(&self, x: &Tensor, over: &Interval<'_>, _: &mut dyn Noise) -> Result<Step> {
        self.validate()?;
        let (from, to) = (over.from, over.to);
        let x0 = over.denoise(x, from)?;
        // The corrector has the order that the predictor had in the previous step.
        let order = self.order.min(over.of - over.index + 1);
        let corrected = self.correction(&over.recent(x, &x0, order + 1), from).map(|by| x + by);
        let start = corrected.as_ref().unwrap_or(x);
        let recent = over.recent(start, &x0, over.order(self.order));
        let held = match &recent[..] {
            [_] => x0.shallow_clone(),
            points => x0_sum(points, &self.weights(points, 0, from, to)),
        };
        let end = hold_x0(start, &held, from, to);
        Ok(Step { x: end, x0, start: corrected.map(|x| (from, x)) })
    }
}
