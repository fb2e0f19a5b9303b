//! The space-time factored 3D U-Net of video diffusion models.
//!
//! [`UNet3d`] is configured by a plain [`UNet3dConfig`]; the trait [`Backbone`] is the interface
//! that a diffusion process needs from a network; [`Cond`] is the conditioning of a network.
//!
//! ```
//! use vd_unet3d::ops::{Noise, Params, SeededNoise};
//! use vd_unet3d::tch::{Device, Kind, Tensor};
//! use vd_unet3d::{Backbone, Cond, FrameMask, UNet3d, UNet3dConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = UNet3dConfig { dim: 8, dim_mults: vec![1, 2], ..Default::default() };
//! let mut params = Params::new(0, Kind::Float, Device::Cpu);
//! let unet = UNet3d::new(&config, &mut params.root())?;
//!
//! let like = Tensor::empty([2, 3, 5, 16, 24], (Kind::Float, Device::Cpu)); // b c f h w
//! let x = SeededNoise::new(1, 0).normal(&like);
//! let t = Tensor::from_slice(&[10i64, 500]);
//! let answer = unet.forward(&x, &t, &Cond::none(), &FrameMask::All, None)?;
//! assert_eq!(answer.size(), x.size());
//! # Ok(())
//! # }
//! ```
//!
//! # Reference
//! Ho et al. 2022, Video Diffusion Models, arXiv:2204.03458.
#![forbid(unsafe_code)]

mod attend;
mod backbone;
mod block;
mod body;
mod check;
mod cond;
mod config;
mod embed;
mod error;
pub mod flops;
mod level;
mod plan;
mod recompute;
mod signals;
mod text;
pub mod traffic;
mod unet;

pub use attend::SPATIAL_HEAD_DIM;
pub use backbone::Backbone;
pub use cond::{Cond, Given, Tokens};
pub use config::{
    Axes, EmbeddingConfig, EmbeddingKind, Preset, SignalConfig, Skips, TimeEmbedding,
    TimePositions, TokensConfig, UNet3dConfig,
};
pub use error::{Error, Result};
pub use tch;
pub use unet::UNet3d;
pub use vd_tensor_ops as ops;
pub use vd_tensor_ops::layers::Wrap;
pub use vd_tensor_ops::torch::graphs::GraphState;
pub use vd_tensor_ops::{FrameMask, Noise};
