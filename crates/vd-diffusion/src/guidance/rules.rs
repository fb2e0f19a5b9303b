//! How conditional and unconditional outputs are combined.

use std::cell::Cell;
use std::fmt;

use tch::{Kind, Tensor};

use super::config::Signals;
use crate::{Levels, NoiseLevel, Parameterization, Result};

/// The outputs for one batch.
pub(super) struct Answers {
    /// One per signal, at least one.
    pub(super) given: Vec<Tensor>,
    pub(super) null: Tensor,
    /// The space of the outputs, as functions of x0 and eps.
    pub(super) space: Parameterization,
}

impl Answers {
    /// The output with every signal at scale 1.
    pub(super) fn whole(&self, signals: Signals) -> Result<Tensor> {
        match &self.given[..] {
            // If the result equals one of the outputs, return that one, without rounding.
            [only] => Ok(only.shallow_clone()),
            [.., last] if signals == Signals::Chained => Ok(last.shallow_clone()),
            all => self.guided(&vec![1.0; all.len()], signals),
        }
    }

    /// The output with every signal at its own scale.
    pub(super) fn guided(&self, scales: &[f64], signals: Signals) -> Result<Tensor> {
        let mut guided = self.null.shallow_clone();
        let mut base = &self.null;
        for (given, scale) in self.given.iter().zip(scales) {
            guided = guided.f_add(&given.f_sub(base)?.f_mul_scalar(*scale)?)?;
            if signals == Signals::Chained {
                base = given;
            }
        }
        Ok(guided)
    }

    /// The x0-hat with every signal at scale 1.
    pub(super) fn x0_of_whole(&self, signals: Signals, x: &Tensor, at: &Levels) -> Result<Tensor> {
        self.space.to_x0(x, &self.whole(signals)?, at)
    }
}

/// The output of a network in this space that corresponds to an x0-hat.
///
/// Without noise, eps-hat is taken as 0: the output is then meaningless anyway.
pub(super) fn output(
    space: Parameterization,
    x: &Tensor,
    x0: &Tensor,
    at: &Levels,
) -> Result<Tensor> {
    if space == Parameterization::X0 {
        return Ok(x0.shallow_clone());
    }
    let eps = at.mix(x, x0, |NoiseLevel { alpha, sigma, .. }| {
        Ok(if sigma > 0.0 { (1.0 / sigma, -alpha / sigma) } else { (0.0, 0.0) })
    })?;
    space.target(x0, &eps, at)
}

/// Moves the standard deviation of each sample by a fraction `share` towards that of `like`.
pub(super) fn rescaled(guided: &Tensor, like: &Tensor, share: f64) -> Result<Tensor> {
    let rest = rest_of(guided);
    if rest.is_empty() {
        return Ok(guided.shallow_clone()); // a single number has no spread
    }
    let std = |x: &Tensor| x.f_std_dim(rest.as_slice(), false, true);
    let own = std(guided)?;
    let ratio = std(like)?.f_div(&own)?;
    // A constant sample has no standard deviation to restore.
    let ratio = ratio.f_where_self(&own.f_gt(0.0)?, &own.f_ones_like()?)?;
    let factor = ratio.f_mul_scalar(share)?.f_add_scalar(1.0 - share)?;
    Ok(guided.f_mul(&factor)?)
}

/// null* + scale (given - null*), where null* is the multiple of null closest to given.
pub(super) fn zero_star(given: &Tensor, null: &Tensor, scale: f64) -> Result<Tensor> {
    let nearest = projection(given, null)?;
    Ok(nearest.f_add(&given.f_sub(&nearest)?.f_mul_scalar(scale)?)?)
}

/// given + (scale - 1) (d less (1 - eta) of its component along given), where d has a norm of at
/// most `norm_threshold`.
pub(super) fn projected(
    given: &Tensor,
    d: &Tensor,
    scale: f64,
    eta: f64,
    norm_threshold: f64,
) -> Result<Tensor> {
    let mut d = d.shallow_clone();
    if norm_threshold > 0.0 {
        let length = dot(&d, &d)?.f_sqrt()?;
        // The smaller of 1 and threshold / length.
        let factor = length.f_clamp_min(norm_threshold)?.f_reciprocal()?;
        d = d.f_mul(&factor.f_mul_scalar(norm_threshold)?.f_to_kind(d.kind())?)?;
    }
    let kept = d.f_sub(&projection(&d, given)?.f_mul_scalar(1.0 - eta)?)?;
    Ok(given.f_add(&kept.f_mul_scalar(scale - 1.0)?)?)
}

/// The component of each sample of `x` along the same sample of `on`.
fn projection(x: &Tensor, on: &Tensor) -> Result<Tensor> {
    // A sample of zeros has no direction: its projection is 0.
    let share = dot(x, on)?.f_div(&dot(on, on)?.f_clamp_min(f64::MIN_POSITIVE)?)?;
    Ok(on.f_mul(&share.f_to_kind(on.kind())?)?)
}

/// The inner product of each sample: b 1 ..., in f64, for it is a sum over a whole video.
fn dot(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let (rest, products) = (rest_of(x), x.f_mul(y)?);
    // libtorch takes an empty list of axes to mean all of them.
    if rest.is_empty() {
        return Ok(products.f_to_kind(Kind::Double)?);
    }
    Ok(products.f_sum_dim_intlist(rest.as_slice(), true, Kind::Double)?)
}

/// All axes except the batch.
fn rest_of(x: &Tensor) -> Vec<i64> {
    (1..x.dim() as i64).collect()
}

/// The velocity eps - x0 of an x0-hat; 0 where there is no noise to determine it.
pub(super) fn velocity(x: &Tensor, x0: &Tensor, at: &Levels) -> Result<Tensor> {
    at.mix(x, x0, |NoiseLevel { alpha, sigma, .. }| {
        Ok(if sigma > 0.0 { (1.0 / sigma, -(alpha + sigma) / sigma) } else { (0.0, 0.0) })
    })
}

/// The x0-hat of a velocity.
pub(super) fn from_velocity(x: &Tensor, velocity: &Tensor, at: &Levels) -> Result<Tensor> {
    Parameterization::Flow.to_x0(x, velocity, at)
}

/// The running sum of guidance differences, over the noise levels of a run.
#[derive(Default)]
pub(super) struct Momentum(Cell<Option<Sum>>);

struct Sum {
    log_snr: f64,
    /// The sum at the level before this one.
    before: Option<Tensor>,
    now: Tensor,
}

impl Momentum {
    /// Resets the sum.
    pub(super) fn forget(&self) {
        self.0.set(None);
    }

    /// `d` plus `share` of the sum so far. A repeated call at the same level gives the same result.
    pub(super) fn added(&self, d: &Tensor, at: &Levels, share: f64) -> Result<Tensor> {
        let log_snr = at.noisiest().map_or(f64::NAN, NoiseLevel::log_snr);
        let before = match self.0.take() {
            Some(sum) if sum.now.size() != d.size() || sum.now.kind() != d.kind() => None,
            Some(sum) if log_snr > sum.log_snr => Some(sum.now),
            Some(sum) if log_snr == sum.log_snr => sum.before,
            _ => None,
        };
        let added = match &before {
            Some(before) => d.f_add(&before.f_mul_scalar(share)?)?,
            None => d.shallow_clone(),
        };
        // The stored sum has no gradient: later levels use it as a constant.
        self.0.set(Some(Sum { log_snr, before, now: added.detach() }));
        Ok(added)
    }
}

impl fmt::Debug for Momentum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Momentum").finish_non_exhaustive()
    }
}
