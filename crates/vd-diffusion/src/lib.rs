//! Diffusion schedules, parameterisations, losses, guidance and samplers, for any tensor whose
//! first axis is the batch.
//!
//! Three parts can be swapped freely, also for implementations outside this crate: a [`Schedule`]
//! defines how much noise there is at a time, a grid (made by a [`Spacing`] or by hand) lists the
//! noise levels that sampling visits, and a [`Sampler`] steps from one to the next. A sampler sees
//! the network only through a [`Denoiser`]; parameterisation, guidance ([`Guided`]), thresholding
//! ([`Thresholded`]) and known parts of a clip ([`Reconstruction`], [`ContextFrames`]) are wrapped
//! around it. [`Diffusion`] combines a schedule with a network's [`Parameterization`], for training
//! and for sampling.
//!
//! Everywhere x_t = alpha x0 + sigma eps, and t runs from 0 (clean) to 1 (noise).
//!
//! ```
//! use vd_diffusion::tch::{Device, Kind, Tensor};
//! use vd_diffusion::{
//!     Backbone, Cond, Ddim, Diffusion, DiffusionConfig, FrameMask, Noise, Result, SeededNoise,
//!     Spacing, Threshold, Thresholded, keep_going, sample, start, unet3d,
//! };
//!
//! /// Takes everything for noise: its x0-hat is zero.
//! #[derive(Debug)]
//! struct Pessimist;
//!
//! impl Backbone for Pessimist {
//!     fn forward(
//!         &self, x: &Tensor, _t: &Tensor, _: &Cond, _: &FrameMask, _: Option<&mut dyn Noise>,
//!     ) -> unet3d::Result<Tensor> {
//!         Ok(x.shallow_clone())
//!     }
//! }
//!
//! fn main() -> Result<()> {
//!     let diffusion = Diffusion::new(&DiffusionConfig::default())?;
//!     let grid = Spacing::UniformT.grid(diffusion.schedule(), 10)?;
//!     let denoiser = diffusion.denoiser(&Pessimist, Cond::none(), FrameMask::All);
//!     let denoiser = Thresholded::new(denoiser, Threshold::Static)?;
//!     // b c f h w
//!     let like = Tensor::zeros([2, 3, 4, 8, 8], (Kind::Float, Device::Cpu));
//!     let mut noise = SeededNoise::new(7, 0);
//!     let x = start(&like, grid[0], &mut noise);
//!     let ddim = Ddim { eta: 0.0 };
//!     let x0 =
//!         sample(&ddim, &denoiser, diffusion.schedule(), &grid, x, &mut noise, &mut keep_going)?;
//!     assert_eq!(x0.size(), [2, 3, 4, 8, 8]);
//!     Ok(())
//! }
//! ```
#![forbid(unsafe_code)]

mod denoiser;
mod diffusion;
mod error;
mod frame_times;
mod grid;
mod guidance;
mod invert;
mod level;
mod levels;
mod likelihood;
mod long_video;
mod loss;
mod named;
mod parameterization;
mod ranges;
mod sampler;
mod schedule;
mod spacing;
mod threshold;
mod times;
mod uncertainty;
mod weighting;

pub use denoiser::{Denoiser, ModelDenoiser, Progress};
pub use diffusion::{Diffusion, DiffusionConfig};
pub use error::{Error, Result};
pub use frame_times::FrameTimes;
pub use grid::check_grid;
pub use guidance::{
    Autoguided, ContextFrames, Downscale, GuidanceConfig, Guided, Known, KnownFrames, NoiseRange,
    Reconstruction, ReconstructionConfig, Signal, Signals,
};
pub use invert::invert;
pub use level::NoiseLevel;
pub use levels::Levels;
pub use likelihood::{Integrator, Likelihood, LogLikelihood, Probe, log_likelihood};
pub use long_video::{DrawWindow, GivenFrames, LongVideoPlan, Window, draw_long};
pub use loss::{Bin, Loss, LossKind, LossRequest};
pub use parameterization::Parameterization;
pub use ranges::Ranges;
pub use sampler::{
    Ancestral, Boundary, Ddim, Deis, Dpm2, DpmPp2m, DpmPp2s, DpmPp3m, Heun, History, Interval,
    Ipndm, Langevin, LastSteps, Lcm, Line, LineRule, LineWeight, Lms, Past, Pndm, Restart, Sampler,
    SamplerConfig, SamplerFacts, Step, StepTaken, ThirdOrder, UniPc, keep_going, moves, sample,
    start,
};
pub use schedule::{
    BetaTable, Cosine, CosineDiscrete, Edm, Flow, Schedule, ScheduleConfig, Shifted, TimeInput,
    betas_from_f32,
};
pub use spacing::Spacing;
pub use tch;
pub use threshold::{Threshold, Thresholded};
pub use times::TimeSampling;
pub use uncertainty::Uncertainty;
pub use vd_tensor_ops::{BrownianNoise, FrameMask, Noise, Params, Scope, SeededNoise};
pub use vd_unet3d as unet3d;
pub use vd_unet3d::{Backbone, Cond};
pub use weighting::Weighting;
