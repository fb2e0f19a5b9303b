//! One step after the other, without files.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};
use vd_data::{Batch, Cursor, Dataset, Loader};
use vd_diffusion::{Diffusion, LossRequest};
use vd_tensor_ops::{Params, Weights, kernels};
use vd_text_cond::TextEncoder;
use vd_unet3d::UNet3d;

use crate::batch::{Preparation, Prepared};
use crate::checkpoint::{Checkpoint, WeightKind};
use crate::clip::{global_norm, shrink_to_norm};
use crate::metrics::LevelLosses;
use crate::optimizer::AdamW;
use crate::signals::Signal;
use crate::streams::{Place, Stream, seed_of};
use crate::uncertainty::{Learned, plain_mean};
use crate::{Error, Result, RunConfig};

/// Everything that changes from step to step.
#[derive(Debug)]
pub(crate) struct Trainer {
    config: RunConfig,
    pub(crate) device: Device,
    pub(crate) diffusion: Diffusion,
    network: UNet3d,
    pub(crate) params: Params,
    pub(crate) ema_network: UNet3d,
    pub(crate) ema: Params,
    pub(crate) optimizer: AdamW,
    /// What divides the loss; not averaged, and not used to sample.
    pub(crate) learned: Option<Learned>,
    pub(crate) preparation: Preparation,
    pub(crate) loader: Loader,
    /// Steps done.
    pub(crate) step: u64,
    /// Where the data of the next step begin; the loader is ahead of it in the midst of a step.
    pub(crate) cursor: Cursor,
    /// Whether weights and optimiser are those after `step`, and no weight is known to be bad.
    pub(crate) sound: bool,
    /// Frames per second of the first clip that was seen.
    pub(crate) fps: Option<f64>,
}

/// What a step found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) loss: f64,
    pub(crate) loss_by_log_snr: [Option<f64>; 8],
    pub(crate) lr: f64,
    pub(crate) grad_norm: f64,
}

impl Trainer {
    /// A run at step 0, or where a checkpoint left it; `encoder` is that of its `[text]`.
    pub(crate) fn new(
        config: &RunConfig,
        dataset: Dataset,
        encoder: Option<Box<dyn TextEncoder>>,
        device: Device,
        from: Option<&Checkpoint>,
    ) -> Result<Self> {
        let train = &config.train;
        let seed = seed_of(train.seed, Stream::Weights);
        let mut params = Params::new(seed, Kind::Float, device);
        let mut network = UNet3d::new(&config.model, &mut params.root())?;
        let mut ema = Params::new(seed, Kind::Float, device);
        let mut ema_network = UNet3d::new(&config.model, &mut ema.root())?;
        for network in [&mut network, &mut ema_network] {
            network.set_precision(train.precision);
        }
        network.set_recompute(train.recompute);
        let state = from.and_then(|checkpoint| checkpoint.state.as_ref());
        let cursor = state.map_or_else(|| Cursor::start(train.seed), |state| state.cursor);
        let mut trainer = Trainer {
            diffusion: Diffusion::new(&config.diffusion)?,
            optimizer: AdamW::new(&params, train.betas, train.weight_decay),
            learned: Learned::new(train, device)?,
            preparation: Preparation {
                text: encoder.zip(config.text.as_ref().map(|text| text.drop)),
                signals: Signal::all(config),
                focus_present: train.focus_present,
                device,
            },
            loader: Loader::over(dataset, train.batch, cursor)?,
            step: state.map_or(0, |state| state.step),
            cursor,
            sound: true,
            fps: state.map(|state| state.fps),
            config: config.clone(),
            device,
            network,
            params,
            ema_network,
            ema,
        };
        if let Some(checkpoint) = from {
            trainer.load(checkpoint)?;
        }
        Ok(trainer)
    }

    fn load(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        for (kind, params) in [(WeightKind::Model, &self.params), (WeightKind::Ema, &self.ema)] {
            let path = checkpoint.weight_path(kind);
            let file = Weights::read(&path, self.device)?;
            let fits = params.load(&file.tensors);
            fits.map_err(|e| Error::checkpoint(&path, e.to_string()))?;
        }
        let path = checkpoint.optimizer_path();
        // The number of the step stays on the CPU, the moments are copied to where they belong.
        let state: BTreeMap<_, _> = Weights::read(&path, Device::Cpu)?.tensors;
        self.optimizer.load(&state).map_err(|e| Error::checkpoint(&path, e.to_string()))?;
        match &mut self.learned {
            Some(learned) => learned.load(&checkpoint.uncertainty_path()),
            None => Ok(()),
        }
    }

    /// One step of the optimiser.
    ///
    /// # Errors
    /// A loss or a gradient that is not finite: the weights are left as they were.
    pub(crate) fn advance(&mut self) -> Result<Outcome> {
        let mut levels = LevelLosses::default();
        let (loss, grads) = self.gradients(&mut levels)?;
        let train = &self.config.train;
        let (own, beside) = grads.split_at(self.optimizer.params().len());
        let norm = global_norm(own)?;
        // The one time in a step that the host waits for the device.
        let mut read = vec![Tensor::f_stack(&[&loss, &norm], 0)?];
        read.append(&mut levels.means);
        if !beside.is_empty() {
            read.push(global_norm(beside)?.f_reshape([1])?);
        }
        let read: Vec<f64> = Vec::try_from(&Tensor::f_cat(&read, 0)?)?;
        let (loss, grad_norm) = (read[0], read[1]);
        let (means, beside_norms) = read[2..].split_at(levels.counts.len());
        if ![loss, grad_norm].iter().chain(beside_norms).all(|number| number.is_finite()) {
            return Err(self.not_finite(loss, &grads));
        }
        let loss_by_log_snr = levels.binned(means)?;
        let lr = train.learning_rate().at(self.step);
        // An error in the midst of these leaves some weights of one step and some of the next.
        self.sound = false;
        let shrink = if train.clip > 0.0 { shrink_to_norm(grad_norm, train.clip) } else { 1.0 };
        let follow = (&self.ema, train.ema_decay().at(self.step));
        kernels::with(train.precision, || self.optimizer.step(lr, own, shrink, Some(follow)))?;
        if let Some(learned) = &mut self.learned {
            learned.optimizer.step(lr, beside, 1.0, None)?;
        }
        self.step += 1;
        self.cursor = self.loader.cursor();
        self.sound = true;
        Ok(Outcome { loss, loss_by_log_snr, lr, grad_norm })
    }

    /// The mean loss of all micro-batches (f64, on the device) and the gradients: those of the
    /// network, then those of the uncertainty.
    fn gradients(&mut self, levels: &mut LevelLosses) -> Result<(Tensor, Vec<Tensor>)> {
        let parts = self.config.train.accumulate;
        let mut sum: Option<(Tensor, Vec<Tensor>)> = None;
        for micro in 0..parts {
            let batch = self.loader.next()?;
            self.fps = self.fps.or_else(|| batch.fps.first().copied());
            let (loss, grads) = self.micro_batch(&batch, micro as u64, levels)?;
            sum = Some(match sum {
                None => (loss, grads),
                Some((total, so_far)) => {
                    for (sum, grad) in so_far.iter().zip(&grads) {
                        let _: Tensor = sum.shallow_clone().f_add_(grad)?;
                    }
                    (total.f_add(&loss)?, so_far)
                }
            });
        }
        sum.ok_or_else(|| Error::config("train.accumulate", "at least 1", parts))
    }

    /// One micro-batch's share of the loss and the gradients.
    fn micro_batch(
        &self,
        batch: &Batch,
        micro: u64,
        levels: &mut LevelLosses,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let train = &self.config.train;
        let at = Place { seed: train.seed, step: self.step, micro };
        let Prepared { x0, cond, frames, keep } = self.preparation.prepare(batch, at)?;
        let (mut noise, mut dropout) = (at.noise(Stream::Loss), at.noise(Stream::Dropout));
        let request = LossRequest {
            frames: Some(&frames),
            keep: keep.as_ref(),
            uncertainty: self.learned.as_ref().map(|learned| &learned.uncertainty),
            train: Some(&mut dropout),
            ..LossRequest::default()
        };
        let loss = self.diffusion.loss(&self.network, &x0, &cond, request, &mut noise)?;
        levels.push(&loss)?;
        let share = loss.mean.f_mul_scalar(1.0 / train.accumulate as f64)?;
        let beside = self.learned.iter().flat_map(|learned| learned.optimizer.params());
        let params: Vec<_> = self.optimizer.params().iter().chain(beside).collect();
        let grads = Tensor::f_run_backward(&[&share], &params, false, false)?;
        let grads = grads.into_iter().zip(params).map(|(grad, param)| {
            // A parameter that the loss does not reach: its gradient is zero.
            let grad = if grad.defined() { grad } else { param.detach().f_zeros_like()? };
            Ok(grad.f_contiguous()?)
        });
        let reported = match &self.learned {
            None => share.detach().f_to_kind(Kind::Double)?,
            Some(_) => plain_mean(&loss)?.f_mul_scalar(1.0 / train.accumulate as f64)?,
        };
        Ok((reported, grads.collect::<Result<_>>()?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::TrainConfig;
    use vd_data::{DataConfig, DigitsConfig, Source};
    use vd_unet3d::UNet3dConfig;

    fn trainer(accumulate: usize) -> Trainer {
        let config = RunConfig {
            model: UNet3dConfig { dim: 4, dim_mults: vec![1], ..UNet3dConfig::default() },
            diffusion: vd_diffusion::DiffusionConfig::default(),
            text: None,
            signals: BTreeMap::new(),
            data: DataConfig {
                source: Source::Digits(DigitsConfig::default()),
                frames: 2,
                size: [8, 8],
                workers: 0,
                ..DataConfig::default()
            },
            train: TrainConfig { accumulate, batch: 2, ..TrainConfig::default() },
        };
        let dataset = Dataset::open(&config.data).unwrap();
        Trainer::new(&config, dataset, None, Device::Cpu, None).unwrap()
    }

    #[test]
    fn accumulation_is_the_mean_over_micro_batches() {
        let mut both = trainer(2);
        let mut levels = LevelLosses::default();
        let (loss, grads) = both.gradients(&mut levels).unwrap();
        // Every clip has as many numbers: the means of two micro-batches of two are one mean.
        assert_eq!((levels.log_snr.len(), levels.counts.len()), (4, 4));
        let pooled = Tensor::cat(&levels.means, 0).mean(Kind::Double);
        assert!((&loss - pooled).abs().double_value(&[]) < 1e-7);
        let mut one = trainer(1);
        let parts: Vec<_> = (0..2)
            .map(|micro| {
                let batch = one.loader.next().unwrap();
                one.micro_batch(&batch, micro, &mut LevelLosses::default()).unwrap()
            })
            .collect();
        let mean = (&parts[0].0 + &parts[1].0) / 2.0;
        assert!((loss - mean).abs().double_value(&[]) < 1e-7);
        for (k, grad) in grads.iter().enumerate() {
            let mean: Tensor = (&parts[0].1[k] + &parts[1].1[k]) / 2.0;
            let scale = mean.abs().max().double_value(&[]) + 1e-6;
            assert!((grad - mean).abs().max().double_value(&[]) < 1e-5 * scale);
        }
    }

    #[test]
    fn the_first_bad_tensor_is_named_and_the_weights_are_left_as_they_were() {
        let mut trainer = trainer(1);
        let before: Vec<_> = trainer.params.tensors().values().map(Tensor::copy).collect();
        let name = "final_conv.1.weight";
        let weight = trainer.params.get(name).unwrap().tensor.detach();
        let good = weight.copy();
        let _ = weight.shallow_clone().fill_(f64::NAN);
        let start = trainer.cursor;
        let message = trainer.advance().unwrap_err().to_string();
        let refused = trainer.check_parameters().unwrap_err().to_string();
        assert!(refused.contains(&format!("step 0: the parameter `{name}`")), "{refused}");
        let begin = format!("step 1: the parameter `{name}` is not finite; start a new run");
        assert!(message.starts_with(&begin), "{message}");
        assert!(!trainer.sound);
        assert_eq!(trainer.cursor, start);
        let grads: Vec<_> = trainer.optimizer.params().iter().map(|p| p.detach().copy()).collect();
        weight.shallow_clone().copy_(&good);
        let message = trainer.not_finite(f64::NAN, &grads).to_string();
        assert!(message.contains("the loss (NaN)"), "{message}");
        let message = trainer.not_finite(0.5, &grads).to_string();
        assert!(message.contains(&format!("the gradient of `{name}`")), "{message}");
        let after = trainer.params.tensors();
        let untouched = after.iter().zip(&before).filter(|((n, _), _)| *n != name);
        assert!(untouched.into_iter().all(|((_, now), then)| now == then));
        assert_eq!(trainer.step, 0);
    }
}
