//! Layouts, layers and factored space/time operations for video tensors on libtorch.
//!
//! This crate handles tensors and knows nothing of noise schedules, text or training: named
//! parameters ([`Params`]), the layers of space-time factored networks ([`layers`]), seeded noise
//! with one stream per sample ([`Noise`]), pixel ranges and layouts ([`video`]), strict weight
//! files ([`Weights`]) and a reader of Python checkpoints ([`pt`]).
//!
//! Letters in shapes: b batch, c channels, f frames, h height, w width, l tokens, d width of an
//! embedding, n heads. Videos are `b c f h w` outside and `b f h w c` inside the network.

mod error;
mod frame_mask;
pub mod kernels;
pub mod layers;
mod noise;
mod params;
pub mod pt;
pub mod video;
mod weights;

pub use error::{Error, Result};
pub use frame_mask::FrameMask;
pub use noise::{BrownianNoise, Noise, SeededNoise, derive_seed};
pub use params::{Init, Param, Params, Scope};
pub use tch;
pub use vd_torch as torch;
pub use weights::{Weights, write_atomically, write_atomically_with};
