//! How much the gradient of a minibatch varies at fixed weights.

use anyhow::{Context, Result};
use vd_data::{Batch, Cursor, Dataset, Loader};
use vd_diffusion::{Diffusion, LossRequest};
use vd_tensor_ops::{SeededNoise, derive_seed, video};
use vd_text_cond::{Hashed, TextEncoder};
use vd_torch::tch::{Device, Kind, Tensor};
use vd_train::{LoadedNetwork, RunConfig};
use vd_unet3d::{Cond, FrameMask};

/// Minibatches, in groups of which each is left out once for the error.
const GROUPS: usize = 8;
const EACH: usize = 8;
const SEED: u64 = 58;

/// What was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    /// The root of the summed variances of all components over the length of the mean gradient.
    pub(crate) relative: f64,
    /// Its standard error, by leaving out one group after the other.
    pub(crate) error: f64,
    /// The length of the mean gradient.
    pub(crate) length: f64,
}

/// The spread of the gradient of a run's own loss at the weights of `at`.
///
/// The clips, their times and their noise are the same however many images are beside them; no text
/// is dropped.
pub(crate) fn measure(config: &RunConfig, at: &LoadedNetwork) -> Result<Spread> {
    let data = vd_data::DataConfig { workers: 0, ..config.data.clone() };
    let dataset = Dataset::open(&data)?;
    let mut loader = Loader::over(dataset, config.train.batch, Cursor::start(SEED))?;
    let diffusion = Diffusion::new(&config.diffusion)?;
    let encoder = Hashed::new(config.model.cond_dim.context("the model takes no text")?)?;
    let params: Vec<Tensor> =
        at.params.trainable().into_iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
    let mut groups = Vec::new();
    for group in 0..GROUPS {
        let mut sums = Sums::default();
        for place in 0..EACH {
            let batch = loader.next()?;
            let (cond, frames) = told(&encoder, &batch)?;
            let x0 = video::from_u8(&batch.video);
            let request = LossRequest { frames: Some(&frames), ..LossRequest::default() };
            let seed = derive_seed(SEED, &[group as u64, place as u64]);
            let mut noise = SeededNoise::new(seed, 0);
            let loss = diffusion.loss(&at.network, &x0, &cond, request, &mut noise)?;
            let grads = Tensor::f_run_backward(&[loss.mean], &params, false, false)?;
            let flat = grads.iter().zip(&params).map(|(grad, param)| {
                // One that the loss does not reach, as what stands in for a text: it is zero.
                let grad = if grad.defined() { grad.shallow_clone() } else { param.zeros_like() };
                grad.flatten(0, -1).to_kind(Kind::Double)
            });
            sums.add(&Tensor::f_cat(&flat.collect::<Vec<_>>(), 0)?)?;
        }
        groups.push(sums);
    }
    spread(&groups)
}

/// Sums over minibatches.
#[derive(Debug, Default)]
struct Sums {
    count: f64,
    gradient: Option<Tensor>,
    squares: f64,
}

impl Sums {
    fn add(&mut self, gradient: &Tensor) -> Result<()> {
        self.count += 1.0;
        self.squares += squared(gradient)?;
        self.gradient = Some(match self.gradient.take() {
            Some(sum) => sum.f_add(gradient)?,
            None => gradient.shallow_clone(),
        });
        Ok(())
    }
}

fn squared(x: &Tensor) -> Result<f64> {
    Ok(x.f_dot(x)?.f_double_value(&[])?)
}

/// The spread over all groups, and how far it moves where one is left out.
fn spread(groups: &[Sums]) -> Result<Spread> {
    let of = |left_out: Option<usize>| -> Result<(f64, f64)> {
        let mut all = Sums::default();
        for (_, group) in groups.iter().enumerate().filter(|(k, _)| Some(*k) != left_out) {
            let gradient = group.gradient.as_ref().context("a group of no minibatch")?;
            let before = all.squares;
            all.add(gradient)?;
            all.squares = before + group.squares;
            all.count += group.count - 1.0;
        }
        let sum = all.gradient.context("no group")?;
        let mean = squared(&sum)? / (all.count * all.count);
        // Without bias: the mean of a few gradients is longer than that of all.
        let variance = (all.squares - all.count * mean) / (all.count - 1.0);
        let length = (mean - variance / all.count).max(0.0).sqrt();
        Ok((variance.sqrt() / length, length))
    };
    let (relative, length) = of(None)?;
    let left: Vec<f64> = (0..groups.len()).map(|k| Ok(of(Some(k))?.0)).collect::<Result<_>>()?;
    let n = left.len() as f64;
    let mean = left.iter().sum::<f64>() / n;
    let around = left.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    Ok(Spread { relative, error: ((n - 1.0) / n * around).sqrt(), length })
}

/// What the frames of a batch are told, the clip's and each image's own, and which see which.
fn told(encoder: &Hashed, batch: &Batch) -> Result<(Cond, FrameMask)> {
    let (f, all) = (batch.clip_frames, batch.video.size()[2]);
    let mut captions = Vec::new();
    for (own, images) in batch.captions.iter().zip(&batch.images) {
        captions.extend(std::iter::repeat_n(own.as_deref().unwrap_or_default(), f));
        captions.extend(images.iter().map(|image| image.caption.as_deref().unwrap_or_default()));
    }
    let rows = encoder.encode(&captions, Device::Cpu)?.pooled.context("no embedding")?;
    let frames = match f as i64 {
        clip if clip < all => FrameMask::ClipAndImages { clip },
        _ => FrameMask::All,
    };
    Ok((Cond::pooled(rows.f_unflatten(0, [-1, all])?), frames))
}
