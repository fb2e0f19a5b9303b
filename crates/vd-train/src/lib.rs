//! The training loop: optimiser, moving average, checkpoints, bit-exact resume.
//!
//! A [`RunConfig`] describes a run completely; [`train`] executes it in the folder `train.out`:
//!
//! - `config.toml`, with every default written out except settings that are off when left out;
//! - `metrics.jsonl`, one line per step;
//! - `previews/step-00000500.gif`;
//! - `checkpoints/step-00000200/` with `config.toml`, `model.safetensors`, `ema.safetensors`,
//!   `optimizer.safetensors` and `state.json`; with `train.uncertainty` also
//!   `uncertainty.safetensors`.
//!
//! [`Checkpoint::open`] loads a trained network. A run that was interrupted in any way resumes from
//! its newest checkpoint: on the CPU, with the same number of threads and the same libtorch, its
//! files have the same bytes as those of an uninterrupted run.
//!
//! ```
//! use std::sync::atomic::AtomicBool;
//! use vd_train::{Checkpoint, Event, Resume, RunConfig, train};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let dir = tempfile::tempdir()?;
//!     let file = dir.path().join("run.toml");
//!     std::fs::write(&file, r#"
//!         [model]
//!         dim = 8
//!         dim_mults = [1, 2]
//!         [text]
//!         encoder = { kind = "hashed", width = 16 }
//!         [data]
//!         source = { kind = "fireworks" }
//!         frames = 2
//!         size = [8, 8]
//!         [train]
//!         steps = 2
//!         batch = 2
//!         preview_every = 0
//!     "#)?;
//!     let out = dir.path().join("run");
//!     let config = RunConfig::load(&file, &[format!("train.out={}", out.display())])?;
//!     let mut losses = Vec::new();
//!     train(&config, Resume::No, &AtomicBool::new(false), &mut |event| {
//!         if let Event::Step(report) = event {
//!             losses.push(report.loss);
//!         }
//!     })?;
//!     assert_eq!(losses.len(), 2);
//!     let checkpoint = Checkpoint::open(&out)?;
//!     assert_eq!(checkpoint.step(), Some(2));
//!     let loaded = checkpoint.network(None, config.train.device.resolve()?)?;
//!     assert!(loaded.params.count() > 1000);
//!     Ok(())
//! }
//! ```
#![forbid(unsafe_code)]

mod batch;
mod begin;
mod behind;
mod checkpoint;
mod clip;
mod clips;
mod config;
mod device_step;
mod ema;
mod error;
mod event;
mod finite;
mod folder;
mod joint;
mod landing;
mod loss_scale;
mod lr;
mod metrics;
mod optimizer;
mod preview;
mod probe;
mod resume;
mod run;
mod signals;
mod step;
mod streams;
mod trainer;
mod uncertainty;

pub use checkpoint::{
    ASSUMED_SHAPE, Checkpoint, CheckpointConfig, Geometry, LoadedNetwork, Machine, Origin, State,
    WeightKind, write_imported,
};
pub use clip::{global_norm, shrink_to_norm};
pub use config::{RunConfig, SignalFrom, SignalSource, TrainConfig, Upsampling};
pub use device_step::{DeviceStep, Share};
pub use ema::EmaDecay;
pub use error::{Error, Result};
pub use event::{Event, Resume, Summary};
pub use loss_scale::LossScale;
pub use lr::{LearningRate, LrSchedule};
pub use metrics::StepReport;
pub use optimizer::AdamW;
pub use probe::{Probed, probe};
pub use run::{train, train_on};
pub use signals::{known_part, low_resolution};
pub use tch;
pub use vd_data as data;
pub use vd_diffusion as diffusion;
pub use vd_tensor_ops as ops;
pub use vd_text_cond as text_cond;
pub use vd_torch as torch;
pub use vd_unet3d as unet3d;
