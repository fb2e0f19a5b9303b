//! Sampling pulled towards the conditions, or towards what is known.

mod autoguided;
mod config;
mod context;
mod guided;
mod known;
mod reconstruction;
mod rules;
mod visits;

pub use autoguided::Autoguided;
pub use config::{GuidanceConfig, NoiseRange, Signal, Signals};
pub use context::ContextFrames;
pub use guided::Guided;
pub use known::{Downscale, Known, KnownFrames};
pub use reconstruction::{Reconstruction, ReconstructionConfig};
