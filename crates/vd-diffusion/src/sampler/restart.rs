//! Restart sampling: returns to higher noise to reduce errors.

use std::cmp::Ordering;

use tch::Tensor;
use vd_tensor_ops::Noise;

use super::{DpmPp2m, Interval, Sampler, Step};
use crate::error::in_range;
use crate::{Error, NoiseLevel, Result};

/// Restart sampling: another sampler, which crosses a band of noise levels `times` more times.
///
/// Each time, noise is added to the state, from the cleanest level of the grid in the band up to
/// its noisiest; the fresh noise contracts the errors accumulated on the way down. The band
/// consists of the grid's levels in it; if these are fewer than two, only the inner sampler acts.
///
/// # Range
/// `low` and `high` in sigma / alpha, 0 <= `low` < `high`, which may be infinite; `times` up to
/// 1000.
///
/// # Reference
/// Xu et al. 2023, section 3.1, arXiv:2306.14878; the paper's separate grid for the band is here a
/// part of the main grid. Order in the moments: that of the inner sampler. Additional evaluations:
/// `times` times those of the inner sampler for the band.
#[derive(Debug)]
pub struct Restart {
    /// The sampler that makes the steps.
    pub inner: Box<dyn Sampler>,
    /// The clean end of the band.
    pub low: f64,
    /// The noisy end of the band.
    pub high: f64,
    /// Number of additional passes through the band.
    pub times: usize,
}

impl Default for Restart {
    /// One additional pass through the levels at which the large structures of an image form, with
    /// the steps of DPM-Solver++(2M).
    fn default() -> Self {
        Restart { inner: Box::new(DpmPp2m::new(0.0)), low: 0.05, high: 2.0, times: 1 }
    }
}

impl Restart {
    /// Limits the length of a plan, which lists all levels.
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
        // Only the last descent, if the inner sampler itself goes up and down.
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
