//! Guidance of sampling towards conditioning, or towards known parts of a clip.

mod autoguided;
mod branches;
mod config;
mod context;
mod downscale;
mod guided;
mod known;
mod reconstruction;
mod rules;
mod steps;

pub use autoguided::Autoguided;
pub use config::{GuidanceConfig, NoiseRange, Signal, Signals};
pub use context::ContextFrames;
pub use downscale::Downscale;
pub use guided::Guided;
pub use known::{Known, KnownFrames};
pub use reconstruction::{Reconstruction, ReconstructionConfig};
