//! The few moves that every sampler is made of.
//!
//! A sampler decides which x0-hat or eps-hat to hold over an interval, and how much noise to take
//! out and put back.

use tch::Tensor;
use vd_tensor_ops::Noise;

use super::{Interval, Past};
use crate::NoiseLevel;

/// Moves with x0-hat held: DDIM, Euler, DPM-Solver++ of order 1.
///
/// # Range
/// Legal from alpha = 0 and to sigma = 0; needs `from.sigma` > 0.
pub fn hold_x0(x: &Tensor, x0: &Tensor, from: NoiseLevel, to: NoiseLevel) -> Tensor {
    let r = to.sigma / from.sigma;
    x * r + x0 * (to.alpha - r * from.alpha)
}

/// Moves with eps-hat held: x / alpha goes along a line in sigma / alpha.
///
/// # Range
/// Needs `from.alpha` > 0.
pub fn hold_eps(x: &Tensor, eps: &Tensor, from: NoiseLevel, to: NoiseLevel) -> Tensor {
    let r = to.alpha / from.alpha;
    x * r + eps * (to.sigma - r * from.sigma)
}

/// Noises forward to a level of more noise.
pub fn raise(x: &Tensor, from: NoiseLevel, to: NoiseLevel, noise: &mut dyn Noise) -> Tensor {
    raise_by(x, from, to, to.variance_given(from), noise)
}

/// Scales to a level of more noise, and adds noise of this variance.
pub(super) fn raise_by(
    x: &Tensor,
    from: NoiseLevel,
    to: NoiseLevel,
    variance: f64,
    noise: &mut dyn Noise,
) -> Tensor {
    x * (to.alpha / from.alpha) + noise.normal(x) * variance.sqrt()
}

/// Adds noise of this variance, that of the interval's stretch of the path; draws none where none
/// is due.
pub fn add_noise(
    mean: Tensor,
    variance: f64,
    over: &Interval<'_>,
    noise: &mut dyn Noise,
) -> Tensor {
    if variance == 0.0 {
        return mean;
    }
    let unit = noise.between(over.from.snr(), over.to.snr(), &mean);
    mean + unit * variance.sqrt()
}

/// The sum of the x0-hat of some states, weighted.
pub(super) fn x0_sum(states: &[Past], weights: &[f64]) -> Tensor {
    states.iter().zip(weights).map(|(past, weight)| &past.x0 * *weight).sum()
}

/// The sum of the eps-hat of some states, weighted. Needs sigma > 0 at each.
pub(super) fn eps_sum(states: &[Past], weights: &[f64]) -> Tensor {
    states.iter().zip(weights).map(|(past, weight)| past.at.eps(&past.x, &past.x0) * *weight).sum()
}
