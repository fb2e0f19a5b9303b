//! The loss on held-out clips, always with the same noise at the same levels.

use anyhow::{Context, Result};
use vd_data::Dataset;
use vd_diffusion::{Diffusion, LossRequest};
use vd_tensor_ops::{SeededNoise, video};
use vd_text_cond::{Hashed, TextEncoder};
use vd_torch::tch::{Device, Tensor, no_grad};
use vd_train::RunConfig;
use vd_unet3d::{Cond, UNet3d};

/// How many clips, each at so many levels.
const CLIPS: u64 = 64;
const LEVELS: usize = 4;
/// What the clips are drawn from; runs begin at small numbers.
const SEED: u64 = 2204_03458;
const BATCH: usize = 16;

/// Clips, what they are told, and the times that they are noised to.
pub(crate) struct HeldOut {
    diffusion: Diffusion,
    x0: Tensor,
    cond: Cond,
}

impl HeldOut {
    pub(crate) fn new(config: &RunConfig) -> Result<Self> {
        let dataset = Dataset::open(&config.data)?;
        let (mut frames, mut captions) = (Vec::new(), Vec::new());
        let mut shape = [0; 5];
        for index in 0..CLIPS {
            let sample = dataset.sample(SEED, 0, index)?.context("a generator leaves out none")?;
            let clip = sample.clip.bytes().context("a generator draws pixels")?;
            shape = [CLIPS as usize, clip.f, clip.h, clip.w, clip.c].map(|n| n as i64);
            frames.extend_from_slice(&clip.frames);
            captions.push(sample.caption.unwrap_or_default());
        }
        let bytes = Tensor::f_from_slice(&frames)?.f_view(shape)?.f_permute([0, 4, 1, 2, 3])?;
        let width = config.model.cond_dim.context("the model takes no text")?;
        let captions: Vec<_> = captions.iter().map(String::as_str).collect();
        Ok(HeldOut {
            diffusion: Diffusion::new(&config.diffusion)?,
            x0: video::from_u8(&bytes),
            cond: Hashed::new(width)?.encode(&captions, Device::Cpu)?,
        })
    }

    /// The loss of each clip, the mean over its levels, which are spread evenly over all clips.
    pub(crate) fn losses(&self, network: &UNet3d) -> Result<Vec<f64>> {
        let mut means = vec![0.0; CLIPS as usize];
        for level in 0..LEVELS {
            for first in (0..CLIPS as usize).step_by(BATCH) {
                let (from, n) = (first as i64, BATCH as i64);
                let times: Vec<f64> = (first..first + BATCH)
                    .map(|clip| (level as f64 + (clip as f64 + 0.5) / CLIPS as f64) / LEVELS as f64)
                    .collect();
                let t = Tensor::f_from_slice(&times)?;
                let request = LossRequest { t: Some(&t), ..LossRequest::default() };
                let mut noise = SeededNoise::new(SEED + level as u64, first as u64);
                let (x0, cond) = (self.x0.f_narrow(0, from, n)?, self.cond.rows(from, n)?);
                let loss =
                    no_grad(|| self.diffusion.loss(network, &x0, &cond, request, &mut noise))?;
                let each = Vec::<f32>::try_from(&loss.per_sample)?;
                for (mean, own) in means[first..].iter_mut().zip(each) {
                    *mean += f64::from(own) / LEVELS as f64;
                }
            }
        }
        Ok(means)
    }
}
