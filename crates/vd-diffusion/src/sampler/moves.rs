//! The elementary moves that samplers are made of.
//!
//! A sampler decides which x0-hat or eps-hat to hold over an interval, and how much noise to remove
//! and add.

use tch::Tensor;
use vd_tensor_ops::Noise;

use super::{Interval, Past};
use crate::NoiseLevel;

/// Moves with x0-hat held: DDIM, Euler, DPM-Solver++ of order 1.
///
/// # Shapes
/// `x`, at `from`: b ...; `x0`: the same; result, at `to`: the same
///
/// # Range
/// alpha = 0 at `from` and sigma = 0 at `to` are legal; needs `from.sigma` > 0.
pub fn hold_x0(x: &Tensor, x0: &Tensor, from: NoiseLevel, to: NoiseLevel) -> Tensor {
    let r = to.sigma / from.sigma;
    x * r + x0 * (to.alpha - r * from.alpha)
}

/// Moves with eps-hat held: x / alpha moves along a line in sigma / alpha.
///
/// # Shapes
/// `x`, at `from`: b ...; `eps`: the same; result, at `to`: the same
///
/// # Range
/// Needs `from.alpha` > 0.
pub fn hold_eps(x: &Tensor, eps: &Tensor, from: NoiseLevel, to: NoiseLevel) -> Tensor {
    let r = to.alpha / from.alpha;
    x * r + eps * (to.sigma - r * from.sigma)
}

/// Adds noise, up to a noisier level, by the forward process.
///
/// # Shapes
/// `x`, at `from`: b ...; result, at `to`: the same
///
/// # Range
/// Needs `from.alpha` > 0.
pub fn raise(x: &Tensor, from: NoiseLevel, to: NoiseLevel, noise: &mut dyn Noise) -> Tensor {
    raise_by(x, from, to, to.variance_given(from), noise)
}

/// Scales to a noisier level, and adds noise of this variance.
pub(super) fn raise_by(
    x: &Tensor,
    from: NoiseLevel,
    to: NoiseLevel,
    variance: f64,
    noise: &mut dyn Noise,
) -> Tensor {
    x * (to.alpha / from.alpha) + noise.normal(x) * variance.sqrt()
}

/// Adds noise of this variance, that of the interval's section of the noise path; draws none if the
/// variance is 0.
///
/// # Shapes
/// `mean`: b ...; result: the same
///
/// # Range
/// `variance` not negative.
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

/// The weighted sum of the x0-hat of some states.
pub(super) fn x0_sum(states: &[Past], weights: &[f64]) -> Tensor {
    weighted_sum(states.iter().zip(weights).map(|(past, weight)| (&past.x0, *weight)))
}

/// Moves the first of some states with the weighted sum of all their eps-hat held. Needs alpha > 0
/// at the first and sigma > 0 at each.
///
/// No eps-hat is computed: each state contributes with a weight for its x and one for its x0-hat.
pub(super) fn hold_eps_sum(states: &[Past], weights: &[f64], to: NoiseLevel) -> Tensor {
    let Some(from) = states.first().map(|past| past.at) else { return Tensor::new() };
    let r = to.alpha / from.alpha;
    let gained = to.sigma - r * from.sigma;
    weighted_sum(states.iter().zip(weights).enumerate().flat_map(|(k, (past, weight))| {
        let scale = gained * weight / past.at.sigma;
        let kept = if k == 0 { r } else { 0.0 };
        [(&past.x, kept + scale), (&past.x0, -scale * past.at.alpha)]
    }))
}

/// One pass over each tensor, allocating only the result.
fn weighted_sum<'a>(mut terms: impl Iterator<Item = (&'a Tensor, f64)>) -> Tensor {
    let Some((first, weight)) = terms.next() else { return Tensor::new() };
    let mut sum = first * weight;
    for (term, weight) in terms {
        let weight = Tensor::full([0i64; 0], weight, (term.kind(), term.device()));
        let _ = sum.addcmul_(term, &weight);
    }
    sum
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};
    use vd_tensor_ops::SeededNoise;

    use super::*;

    #[test]
    fn weights_of_states_hold_the_same_as_their_eps_hat() {
        let mut noise = SeededNoise::new(1, 0);
        let like = Tensor::empty([2, 50], (Kind::Double, Device::Cpu));
        let level = |log_snr| NoiseLevel::variance_preserving(0.5, log_snr);
        for (start, to) in [(-9.0, -8.0), (0.5, 1.5), (15.0, 18.0)] {
            let states: Vec<_> = (0..4)
                .map(|k| {
                    let at = level(start - f64::from(k));
                    let x0 = noise.normal(&like);
                    let x = &x0 * at.alpha + noise.normal(&like) * at.sigma;
                    Past { at, x, x0 }
                })
                .collect();
            for n in 1..=4 {
                let (states, weights) = (&states[..n], [2.3, -1.9, 0.8, -0.2]);
                let eps = states.iter().zip(weights).map(|(s, w)| s.at.eps(&s.x, &s.x0) * w);
                let held = hold_eps(&states[0].x, &eps.sum(), states[0].at, level(to));
                let off = (hold_eps_sum(states, &weights, level(to)) - held).abs().max();
                assert!(off.double_value(&[]) < 1e-13, "{n} from {start}: {off:?}");
            }
        }
    }
}
