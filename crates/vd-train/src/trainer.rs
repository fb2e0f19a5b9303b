//! Training steps, without files.

use std::collections::BTreeMap;

use tch::{Device, Kind};
use vd_data::{Batch, Cursor, Dataset, Loader};
use vd_diffusion::Diffusion;
use vd_tensor_ops::{Params, Weights};
use vd_text_cond::TextEncoder;
use vd_torch::Autocast;
use vd_unet3d::UNet3d;

use crate::batch::Preparation;
use crate::checkpoint::{Checkpoint, WeightKind};
use crate::device_step::DeviceStep;
use crate::loss_scale::LossScale;
use crate::optimizer::AdamW;
use crate::signals::Signal;
use crate::streams::{Stream, seed_of};
use crate::uncertainty::Learned;
use crate::{Error, Result, RunConfig};

/// Everything that changes from step to step.
#[derive(Debug)]
pub(crate) struct Trainer {
    pub(crate) config: RunConfig,
    pub(crate) device: Device,
    pub(crate) diffusion: Diffusion,
    pub(crate) network: UNet3d,
    pub(crate) params: Params,
    pub(crate) ema_network: UNet3d,
    pub(crate) ema: Params,
    pub(crate) optimizer: AdamW,
    /// The learned divisor of the loss; it has no moving average and is not used in sampling.
    pub(crate) learned: Option<Learned>,
    /// Only with fp16.
    pub(crate) loss_scale: Option<LossScale>,
    pub(crate) preparation: Preparation,
    pub(crate) loader: Loader,
    /// Steps done.
    pub(crate) step: u64,
    /// The data position of the next step; the loader may be ahead of it.
    pub(crate) cursor: Cursor,
    /// The data position of the next micro-batch.
    pub(crate) reached: Cursor,
    /// The next micro-batch if it was loaded ahead, or the error of loading it.
    pub(crate) ahead: Option<Result<Batch>>,
    /// The end of asynchronous steps.
    pub(crate) device_step: Option<DeviceStep>,
    /// Whether weights and optimiser are those after `step`, and no weight is known to be bad.
    pub(crate) sound: bool,
    /// Frames per second of what it learns: the median over a folder, else that of the first clip.
    pub(crate) fps: Option<f64>,
    /// Whether it was reported that something is not recorded.
    told_of_graphs: bool,
}

impl Trainer {
    /// A run at step 0, or resumed from a checkpoint; `encoder` is that of its `[text]`.
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
            network.set_autocast(train.autocast);
        }
        network.set_recompute(train.recompute);
        // The average is used only for previews, and a recording of it would keep their memory.
        network.set_graphs(train.graphs);
        let state = from.and_then(|checkpoint| checkpoint.state.as_ref());
        let cursor = state.map_or_else(|| Cursor::start(train.seed), |state| state.cursor);
        let mut trainer = Trainer {
            diffusion: Diffusion::new(&config.diffusion)?,
            optimizer: AdamW::new(&params, train.betas, train.weight_decay),
            learned: Learned::new(train, device)?,
            loss_scale: (train.autocast == Autocast::Fp16)
                .then(|| state.and_then(|state| state.loss_scale).unwrap_or_default()),
            preparation: Preparation {
                text: encoder.zip(config.text.as_ref().map(|text| text.drop)),
                signals: Signal::all(config),
                focus_present: train.focus_present,
                device,
            },
            loader: Loader::over(dataset, train.batch, cursor)?,
            step: state.map_or(0, |state| state.step),
            cursor,
            reached: cursor,
            ahead: None,
            device_step: None,
            sound: true,
            fps: state.map(|state| state.fps),
            told_of_graphs: false,
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

    /// Reports once why the network or the end of a step, which should be recorded, is not.
    pub(crate) fn news_of_graphs(&mut self) -> Option<String> {
        if self.told_of_graphs {
            return None;
        }
        let of_step = || self.device_step.as_ref()?.refused().map(str::to_owned);
        let why = self.network.graph_state().refused.or_else(of_step)?;
        self.told_of_graphs = true;
        Some(why)
    }

    fn load(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        for (kind, params) in [(WeightKind::Model, &self.params), (WeightKind::Ema, &self.ema)] {
            let path = checkpoint.weight_path(kind);
            let file = Weights::read(&path, self.device)?;
            let fits = params.load(&file.tensors);
            fits.map_err(|e| Error::checkpoint(&path, e.to_string()))?;
        }
        let path = checkpoint.optimizer_path();
        // The step count stays on the CPU; the moments are copied to their device.
        let state: BTreeMap<_, _> = Weights::read(&path, Device::Cpu)?.tensors;
        self.optimizer.load(&state).map_err(|e| Error::checkpoint(&path, e.to_string()))?;
        match &mut self.learned {
            Some(learned) => learned.load(&checkpoint.uncertainty_path()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::TrainConfig;
    use crate::finite::is_bad;
    use crate::metrics::LevelLosses;
    use tch::Tensor;
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
        // Every clip has the same number of values, so the means of two micro-batches of two give
        // one mean.
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
        let message = trainer.not_finite(f64::NAN, &|k| is_bad(&grads[k])).to_string();
        assert!(message.contains("the loss (NaN)"), "{message}");
        let message = trainer.not_finite(0.5, &|k| is_bad(&grads[k])).to_string();
        assert!(message.contains(&format!("the gradient of `{name}`")), "{message}");
        let after = trainer.params.tensors();
        let untouched = after.iter().zip(&before).filter(|((n, _), _)| *n != name);
        assert!(untouched.into_iter().all(|((_, now), then)| now == then));
        assert_eq!(trainer.step, 0);
    }
    fn scaled(scale: f64) -> Trainer {
        let mut trainer = trainer(2);
        trainer.loss_scale = Some(LossScale { scale, ..LossScale::default() });
        trainer
    }

    #[test]
    fn a_scale_that_is_a_power_of_two_changes_no_bit() {
        let (mut plain, mut scaled) = (trainer(2), scaled(65_536.0));
        for _ in 0..3 {
            let (a, b) = (plain.advance().unwrap(), scaled.advance().unwrap());
            assert_eq!((a.loss, a.grad_norm, a.skipped), (b.loss, b.grad_norm, b.skipped));
            assert_eq!((a.loss_scale, b.loss_scale), (None, Some(65_536.0)));
        }
        assert_eq!(plain.params.tensors(), scaled.params.tensors());
        assert_eq!(plain.ema.tensors(), scaled.ema.tensors());
        assert_eq!(scaled.loss_scale.unwrap().good_steps, 3);
    }

    #[test]
    fn a_step_that_overflows_changes_the_scale_alone_and_the_next_goes_on_with_other_data() {
        let mut trainer = scaled(2f64.powi(128));
        // A loss of about 10^8, and gradients of that order.
        let weight = trainer.params.get("final_conv.1.weight").unwrap().tensor.detach();
        let _ = weight.shallow_clone().g_mul_scalar_(1e4);
        let before: Vec<_> = trainer.params.tensors().values().map(Tensor::copy).collect();
        let start = trainer.cursor;
        let outcome = trainer.advance().unwrap();
        assert!(outcome.skipped && outcome.loss.is_finite() && outcome.grad_norm == 0.0);
        let left = LossScale { scale: 2f64.powi(127), good_steps: 0, skipped: 1 };
        assert_eq!((trainer.loss_scale, trainer.step, trainer.sound), (Some(left), 1, true));
        assert_ne!(trainer.cursor, start);
        assert!(trainer.params.tensors().values().zip(&before).all(|(now, then)| now == then));
        assert_eq!(trainer.optimizer.state()["step"].int64_value(&[0]), 0);
        let mut steps = 0;
        while trainer.advance().unwrap().skipped {
            steps += 1;
            assert!(steps < 128);
        }
        assert!(trainer.params.tensors().values().zip(&before).any(|(now, then)| now != then));
    }

    #[test]
    fn where_no_scale_helps_the_bad_tensor_is_named() {
        let mut trainer = scaled(65_536.0);
        let weight = trainer.params.get("final_conv.1.weight").unwrap().tensor.detach();
        let _ = weight.shallow_clone().fill_(f64::NAN);
        let message = trainer.advance().unwrap_err().to_string();
        assert!(message.contains("`final_conv.1.weight` is not finite"), "{message}");
    }

    #[test]
    fn memory_that_runs_out_names_the_batch_and_what_to_do() {
        let trainer = trainer(1);
        let message = trainer.out_of_memory("CUDA out of memory".to_owned()).to_string();
        for part in ["train.batch = 2 clips of 2 frames of 8x8", "lower", "train.recompute from 0"]
        {
            assert!(message.contains(part), "{message}");
        }
    }
}
