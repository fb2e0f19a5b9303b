//! A trained run, opened for sampling clips.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Result;
use vd_data::Clip;
use vd_diffusion::Diffusion;
use vd_tensor_ops::kernels::Precision;
use vd_tensor_ops::video;
use vd_text_cond::{Condition, GenerateRequest, Generator, TextEncoder, generate};
use vd_torch::DeviceChoice;
use vd_torch::tch::Tensor;
use vd_train::{Checkpoint, Geometry, LoadedNetwork};

/// The newest checkpoint of a run, ready to sample from.
#[derive(Debug)]
pub struct Opened {
    checkpoint: Checkpoint,
    loaded: LoadedNetwork,
    encoder: Option<Box<dyn TextEncoder>>,
    diffusion: Diffusion,
    device: vd_train::tch::Device,
    /// The shape of its clips.
    pub geometry: Geometry,
}

impl Opened {
    /// Opens a run on the GPU where there is one.
    ///
    /// # Errors
    /// A folder without a checkpoint, or one that cannot be read.
    pub fn run(run: &Path) -> Result<Opened> {
        let checkpoint = Checkpoint::open(run)?;
        let device = DeviceChoice::Auto.resolve()?;
        Ok(Opened {
            loaded: checkpoint.network(None, device)?,
            encoder: checkpoint.encoder()?,
            diffusion: Diffusion::new(&checkpoint.config.diffusion)?,
            device,
            geometry: checkpoint.geometry(),
            checkpoint,
        })
    }

    /// A request for one clip of each prompt in 50 DDIM steps; override its fields with `..`.
    pub fn request(&self, prompts: Vec<String>) -> GenerateRequest {
        let [h, w] = self.geometry.size;
        let shape = [self.geometry.frames, h, w].map(|n| n as i64);
        let device = self.device;
        GenerateRequest { device, ..GenerateRequest::new(Condition::Prompts(prompts), shape) }
    }

    /// Sets the precision of everything computed from now on.
    pub fn set_precision(&mut self, precision: Precision) {
        self.loaded.network.set_precision(precision);
    }

    /// Samples clips.
    ///
    /// # Errors
    /// Those of [`generate`].
    pub fn draw(&self, request: &GenerateRequest) -> Result<Vec<Clip>> {
        let videos = self.videos(request)?;
        let clip = |k| Ok(Clip::from_tensor(&video::to_u8(&videos.get(k)), self.geometry.fps)?);
        (0..videos.size()[0]).map(clip).collect()
    }

    /// As [`Opened::draw`], but with values in [-1, 1].
    ///
    /// # Shapes
    /// n c f h w
    /// # Errors
    /// Those of [`generate`].
    pub fn videos(&self, request: &GenerateRequest) -> Result<Tensor> {
        let model = Generator {
            backbone: &self.loaded.network,
            diffusion: &self.diffusion,
            encoder: self.encoder.as_deref(),
            null: self.checkpoint.null(),
            signals: &[],
        };
        Ok(generate(&model, request, &mut |_| ControlFlow::Continue(()))?)
    }
}
