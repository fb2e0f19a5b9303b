//! From noise to a sample, one stateless step at a time.

mod ancestral;
mod build;
mod checked;
mod config;
mod ddim;
mod deis;
mod dpm2;
mod dpmpp_2m;
mod dpmpp_2s;
mod dpmpp_3m;
mod facts;
mod heun;
mod history;
mod ipndm;
mod langevin;
mod lcm;
mod lms;
pub mod moves;
mod multistep;
mod pndm;
mod polynomial;
mod restart;
mod run;
mod unipc;
mod watch;

pub use ancestral::Ancestral;
pub use config::SamplerConfig;
pub use ddim::Ddim;
pub use deis::Deis;
pub use dpm2::Dpm2;
pub use dpmpp_2m::DpmPp2m;
pub use dpmpp_2s::DpmPp2s;
pub use dpmpp_3m::{DpmPp3m, ThirdOrder};
pub use facts::SamplerFacts;
pub use heun::{Heun, Line};
pub use history::{History, Past};
pub use ipndm::Ipndm;
pub use langevin::Langevin;
pub use lcm::{Boundary, Lcm};
pub use lms::Lms;
pub use multistep::{LastSteps, LineRule};
pub use pndm::Pndm;
pub use restart::Restart;
pub use run::{StepTaken, keep_going, sample, start};
pub use unipc::{LineWeight, UniPc};
pub(crate) use watch::Watch;

use std::fmt;

use tch::Tensor;
use vd_tensor_ops::Noise;

use crate::{Denoiser, NoiseLevel, Result, Schedule};

/// The interval of a step, and everything that the step may use.
#[derive(Clone, Copy)]
pub struct Interval<'a> {
    /// The level of the state.
    pub from: NoiseLevel,
    /// The level that the step leads to.
    pub to: NoiseLevel,
    /// Index of the step, from 0.
    pub index: usize,
    /// Number of steps.
    pub of: usize,
    /// The network with its guidance and conditioning.
    pub denoiser: &'a dyn Denoiser,
    /// The schedule that the levels come from.
    pub schedule: &'a dyn Schedule,
    /// The states before this one.
    pub past: &'a History,
}

impl Interval<'_> {
    /// The x0-hat of a state, checked to match it in shape, kind and device.
    ///
    /// # Errors
    /// Any error of the denoiser; a result of another shape, kind or device.
    pub fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        let x0 = self.denoiser.denoise(x, at)?;
        checked::Looks::of(x).check("x0-hat of the denoiser", &x0)?;
        Ok(x0)
    }

    /// Whether log-SNR is infinite at an end; steps fall to first order there.
    pub fn is_open(&self) -> bool {
        self.from.alpha == 0.0 || self.to.sigma == 0.0
    }

    /// The order allowed for a multistep rule: 1 if an end is infinite; otherwise falling to 1 on
    /// the last step, since the last steps are long in log-SNR and a polynomial does not
    /// extrapolate that far.
    pub fn order(&self, wanted: usize) -> usize {
        if self.is_open() { 1 } else { wanted.min(self.of - self.index) }
    }

    /// This state and the newest before it, newest first: at most `n` in all, always including this
    /// one.
    pub fn recent(&self, x: &Tensor, x0: &Tensor, n: usize) -> Vec<Past> {
        let now = Past { at: self.from, x: x.shallow_clone(), x0: x0.shallow_clone() };
        let before = self.past.newest(n.saturating_sub(1)).map(Past::shallow_clone);
        std::iter::once(now).chain(before).collect()
    }

    /// Increase of half the log-SNR; infinite if an end is open.
    fn half_log_snr_gained(&self) -> f64 {
        self.to.half_log_snr() - self.from.half_log_snr()
    }

    /// The variance that the reverse SDE of strength `eta` removes and adds.
    ///
    /// Lu et al. 2022, section 5, arXiv:2211.01095; between eta = 0 and 1 as in k-diffusion.
    fn sde_variance(&self, eta: f64) -> f64 {
        if eta == 0.0 || self.to.sigma == 0.0 {
            return 0.0;
        }
        -(-2.0 * eta * self.half_log_snr_gained()).exp_m1() * self.to.sigma.powi(2)
    }
}

impl fmt::Debug for Interval<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interval")
            .field("from", &self.from)
            .field("to", &self.to)
            .field("index", &self.index)
            .field("of", &self.of)
            .field("schedule", &self.schedule)
            .finish_non_exhaustive()
    }
}

/// Result of a step.
#[derive(Debug)]
pub struct Step {
    /// The state at the end of the interval.
    pub x: Tensor,
    /// The x0-hat at its start.
    pub x0: Tensor,
    /// The state that the step actually started from, if not the given one (churn, a corrector).
    pub start: Option<(NoiseLevel, Tensor)>,
}

impl Step {
    /// A step that started from the given state.
    pub fn new(x: Tensor, x0: Tensor) -> Step {
        Step { x, x0, start: None }
    }
}

/// How to go from one noise level to the next: implement this for your own sampler.
///
/// A sampler keeps no state between steps; past states are in the interval's [`History`].
pub trait Sampler: fmt::Debug {
    /// The levels actually visited. A sampler that returns to higher noise inserts rising levels,
    /// which the sampling loop crosses by adding noise.
    fn plan(&self, grid: Vec<NoiseLevel>) -> Vec<NoiseLevel> {
        grid
    }

    /// One step over an interval.
    ///
    /// # Shapes
    /// `x`: b ...; result: the same
    ///
    /// # Errors
    /// Any error of the denoiser; settings out of range.
    fn step(&self, x: &Tensor, over: &Interval<'_>, noise: &mut dyn Noise) -> Result<Step>;
}

impl<S: Sampler + ?Sized> Sampler for &S {
    fn plan(&self, grid: Vec<NoiseLevel>) -> Vec<NoiseLevel> {
        (**self).plan(grid)
    }

    fn step(&self, x: &Tensor, over: &Interval<'_>, noise: &mut dyn Noise) -> Result<Step> {
        (**self).step(x, over, noise)
    }
}

impl<S: Sampler + ?Sized> Sampler for Box<S> {
    fn plan(&self, grid: Vec<NoiseLevel>) -> Vec<NoiseLevel> {
        (**self).plan(grid)
    }

    fn step(&self, x: &Tensor, over: &Interval<'_>, noise: &mut dyn Noise) -> Result<Step> {
        (**self).step(x, over, noise)
    }
}
