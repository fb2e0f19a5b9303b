//! Conditioning from prompts, and video generation from prompts.
//!
//! A [`TextEncoder`] turns prompts into the [`Cond`](vd_unet3d::Cond) of a network: [`Hashed`]
//! needs no weights, [`Pretrained`] runs a language model, [`EmbeddingFile`] looks prompts up in a
//! file of embeddings made by another model. [`generate`] does the rest: conditioning, guidance,
//! thresholding, sampling.
//!
//! ```
//! use std::ops::ControlFlow;
//! use vd_text_cond::diffusion::unet3d::{UNet3d, UNet3dConfig, ops::Params};
//! use vd_text_cond::diffusion::{Diffusion, DiffusionConfig};
//! use vd_text_cond::tch::{Device, Kind};
//! use vd_text_cond::{
//!     Condition, GenerateRequest, Generator, Hashed, NullEmbedding, TextEncoder, generate,
//! };
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let encoder = Hashed::new(16)?;
//!     let config = UNet3dConfig {
//!         dim: 8,
//!         dim_mults: vec![1, 2],
//!         cond_dim: Some(encoder.width()),
//!         ..UNet3dConfig::default()
//!     };
//!     // weights as they start; `vd_train::Checkpoint` loads trained ones
//!     let mut params = Params::new(0, Kind::Float, Device::Cpu);
//!     let network = UNet3d::new(&config, &mut params.root())?;
//!     let diffusion = Diffusion::new(&DiffusionConfig::default())?;
//!     let model = Generator {
//!         backbone: &network,
//!         diffusion: &diffusion,
//!         encoder: Some(&encoder),
//!         null: NullEmbedding::Trained,
//!         signals: &[],
//!     };
//!     let prompts = vec!["a red firework".to_owned(), "a blue firework".to_owned()];
//!     let request = GenerateRequest {
//!         steps: 2,
//!         guidance: 2.0,
//!         ..GenerateRequest::new(Condition::Prompts(prompts), [3, 8, 8])
//!     };
//!     let videos = generate(&model, &request, &mut |_| ControlFlow::Continue(()))?;
//!     assert_eq!(videos.size(), [2, 3, 3, 8, 8]);
//!     Ok(())
//! }
//! ```
#![forbid(unsafe_code)]

mod branches;
mod config;
mod embeddings;
mod encoder;
mod error;
mod generate;
mod npy;
mod prompt;
mod prompt_file;
mod request;
mod signal;
mod texts;

pub use config::TextConfig;
pub use embeddings::read_embeddings;
pub use encoder::{
    EmbeddingFile, EncoderConfig, Hashed, Layer, Pooling, Precision, Pretrained, PretrainedConfig,
    TextEncoder,
};
pub use error::{Error, Result};
pub use generate::{Progress, Sampling, generate, generate_by, generate_with};
pub use prompt::{Part, Text};
pub use prompt_file::{LineSignal, PromptLine, read_prompts};
pub use request::{
    Condition, GenerateRequest, Generator, Guide, KnownParts, NoiseSource, NullEmbedding,
};
pub use signal::{GivenSignal, SignalValue};
pub use tch;
pub use vd_diffusion as diffusion;

/// The example in the README, run as a doctest.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
