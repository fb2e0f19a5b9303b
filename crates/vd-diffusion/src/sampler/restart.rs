//! Going up again, to go down better.

use std::cmp::Ordering;

use tch::Tensor;
use vd_tensor_ops::Noise;

use super::{DpmPp2m, Interval, Sampler, Step};
use crate::error::in_range;
use crate::{Error, NoiseLevel, Result};

/// Restart sampling: another sampler, which goes `times` times more through a band of noise levels.
///
/// Each time the state is noised forward from the cleanest level of the grid in the band to its
/// noisiest: the fresh noise contracts what errors the way down has gathered. The band takes
/// the levels that the grid has there; where these are fewer than two it is the inner sampler alone.
///
/// # Range
/// `low` and `high` in sigma / alpha, 0 <= `low` < `high`, which may be infinite; `times` up to
/// 1000.
///
/// # Reference
/// Xu et al. 2023, section 3.1, arXiv:2306.14878, whose second grid for the band is here the first
/// one's part. Order in the moments: that of the inner sampler; as many evaluations more as it
/// needs for the band, `times` times.
#[derive(Debug)]
pub struct Restart {
    /// Who makes the steps.
    pub inner: Box<dyn Sampler>,
    /// The clean end of the band.
    pub low: f64,
    /// The noisy end of the band.
    pub high: f64,
    /// How often the band is gone through again.
    pub times: usize,
}

impl Default for Restart {
    /// Once through the levels where a picture's large forms are settled, in the steps of
    /// DPM-Solver++(2M).
    fn default() -> Self {
        Restart { inner: Box::new(DpmPp2m::new(0.0)), low: 0.05, high: 2.0, times: 1 }
    }
}

impl Restart {
    /// A plan is a list of all its levels, which has to end.
    const MOST: usize = 1000;

    pub(super) fn validate(&self) -> Result<()> {
        in_range("sampler restart: low", self.low, 0.0, f64::MAX)?;
        if self.high.partial_cmp(&self.low) != Some(Ordering::Greater) {
            let expected = format!("a sigma / alpha above low, which is {}", self.low);
            return Err(Error::value("sampler restart: high", expected, self.high));
        }
        if self.times > Self::MOST {
            let expected = format!("at most {} times", Self::MOST);
            return Err(Error::value("sampler restart: times", expected, self.times));
        }
        Ok(())
    }

    fn is_inside(&self, at: NoiseLevel) -> bool {
        (self.low..=self.high).contains(&(at.sigma / at.alpha))
    }
}

impl Sampler for Restart {
    fn plan(&self, grid: Vec<NoiseLevel>) -> Vec<NoiseLevel> {
        let mut levels = self.inner.plan(grid);
        let Some(last) = levels.iter().rposition(|at| self.is_inside(*at)) else {
            return levels;
        };
        // Only the last way down, where the inner sampler itself goes up and down.
        let mut first = last;
        while first > 0
            && self.is_inside(levels[first - 1])
            && levels[first - 1].log_snr() < levels[first].log_snr()
        {
            first -= 1;
        }
        if first < last {
            let again = levels[first..=last].repeat(self.times.min(Self::MOST));
            levels.splice(last + 1..last + 1, again);
        }
        levels
    }

    fn step(&self, x: &Tensor, over: &Interval<'_>, noise: &mut dyn Noise) -> Result<Step> {
        self.validate()?;
        self.inner.step(x, over, noise)
    }
}
