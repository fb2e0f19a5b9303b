//! One step of the optimiser.

use tch::{Kind, Tensor};
use vd_data::Batch;
use vd_diffusion::LossRequest;
use vd_tensor_ops::kernels;

use crate::batch::Prepared;
use crate::behind::Launched;
use crate::clip::{global_norm, shrink_to_norm};
use crate::finite::is_bad;
use crate::metrics::LevelLosses;
use crate::streams::{Place, Stream};
use crate::trainer::Trainer;
use crate::uncertainty::plain_mean;
use crate::{Error, Result};

/// The results of a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// The number of the step, counted from 1.
    pub(crate) step: u64,
    pub(crate) loss: f64,
    pub(crate) loss_by_log_snr: [Option<f64>; 8],
    pub(crate) lr: f64,
    /// 0 for a skipped step, whose gradients are not finite.
    pub(crate) grad_norm: f64,
    /// The factor on the loss, with fp16.
    pub(crate) loss_scale: Option<f64>,
    pub(crate) skipped: bool,
}

impl Trainer {
    /// One step of the optimiser, and its results.
    ///
    /// # Errors
    /// As [`Trainer::launch`] and [`Trainer::look`].
    pub(crate) fn advance(&mut self) -> Result<Outcome> {
        let launched = self.launch()?;
        self.look(launched)
    }

    /// One step of the optimiser; asynchronous if the device itself distinguishes good steps from
    /// bad ones.
    ///
    /// # Errors
    /// A loss or a gradient that is not finite, unless [`Trainer::look`] finds it; out of memory; a
    /// panic, which tch's operators raise if libtorch refuses: it becomes an error too, so that the
    /// run still saves its last good step. Unless `self.sound` says otherwise the weights are
    /// unchanged.
    pub(crate) fn launch(&mut self) -> Result<Launched> {
        match vd_torch::catch_panic(|| self.step_of_the_optimizer()) {
            Err(said) if vd_torch::says_out_of_memory(&said) => Err(self.out_of_memory(said)),
            Err(said) => Err(Error::Step { step: self.step + 1, said }),
            Ok(Err(error)) if vd_torch::says_out_of_memory(&error.to_string()) => {
                Err(self.out_of_memory(error.to_string()))
            }
            Ok(done) => done,
        }
    }

    fn step_of_the_optimizer(&mut self) -> Result<Launched> {
        let mut levels = LevelLosses::default();
        let (loss, grads) = self.gradients(&mut levels)?;
        match self.steps_behind(&grads)? {
            Some(on) => self.step_behind(&on, (&loss, &grads), levels),
            None => Ok(Launched::Done(self.step_at_once(&loss, &grads, levels)?)),
        }
    }

    fn step_at_once(
        &mut self,
        loss: &Tensor,
        grads: &[Tensor],
        mut levels: LevelLosses,
    ) -> Result<Outcome> {
        let train = &self.config.train;
        let (own, beside) = grads.split_at(self.optimizer.params().len());
        let norm = global_norm(own)?;
        // The only time in a step that the host waits for the device.
        let mut read = vec![Tensor::f_stack(&[loss, &norm], 0)?];
        read.append(&mut levels.means);
        if !beside.is_empty() {
            read.push(global_norm(beside)?.f_reshape([1])?);
        }
        let read: Vec<f64> = Vec::try_from(&Tensor::f_cat(&read, 0)?)?;
        let scale = self.scale();
        let (loss, grad_norm) = (read[0], read[1] / scale);
        let (means, beside_norms) = read[2..].split_at(levels.counts.len());
        let (lr, step) = (train.learning_rate().at(self.step), self.step + 1);
        if ![loss, grad_norm].iter().chain(beside_norms).all(|number| number.is_finite()) {
            let scaled = loss.is_finite() && self.loss_scale.is_some();
            if !scaled || !self.loss_scale.as_mut().is_some_and(|scale| scale.overflowed()) {
                return Err(self.not_finite(loss, &|gradient| is_bad(&grads[gradient])));
            }
            let loss_by_log_snr = levels.binned(means)?;
            self.step_is_done();
            let loss_scale = Some(scale);
            let skipped = true;
            let grad_norm = 0.0;
            return Ok(Outcome { step, loss, loss_by_log_snr, lr, grad_norm, loss_scale, skipped });
        }
        let loss_by_log_snr = levels.binned(means)?;
        // After an error in the middle, some weights are those of this step and some those of the
        // next.
        self.sound = false;
        let shrink = if train.clip > 0.0 { shrink_to_norm(grad_norm, train.clip) } else { 1.0 };
        let follow = (&self.ema, train.ema_decay().at(self.step));
        let update = || self.optimizer.step(lr, own, shrink / scale, Some(follow));
        kernels::with(train.precision, update)?;
        if let Some(learned) = &mut self.learned {
            learned.optimizer.step(lr, beside, 1.0 / scale, None)?;
        }
        if let Some(scale) = &mut self.loss_scale {
            scale.went_well();
        }
        self.step_is_done();
        self.sound = true;
        let loss_scale = self.loss_scale.map(|_| scale);
        let skipped = false;
        Ok(Outcome { step, loss, loss_by_log_snr, lr, grad_norm, loss_scale, skipped })
    }

    pub(crate) fn step_is_done(&mut self) {
        self.step += 1;
        self.cursor = self.reached;
    }

    /// The factor on the loss for the backward pass.
    fn scale(&self) -> f64 {
        self.loss_scale.map_or(1.0, |scale| scale.scale)
    }

    pub(crate) fn out_of_memory(&self, said: String) -> Error {
        let (train, data) = (&self.config.train, &self.config.data);
        Error::OutOfMemory {
            step: self.step + 1,
            device: match self.device {
                tch::Device::Cuda(n) => format!("cuda:{n}"),
                _ => "the CPU".to_owned(),
            },
            batch: train.batch,
            clip: format!("{} frames of {}x{}", data.frames, data.size[0], data.size[1]),
            recompute: train.recompute,
            levels: self.config.model.dim_mults.len(),
            said,
        }
    }

    /// The mean loss of all micro-batches (f64, on the device) and the gradients, times the scale:
    /// those of the network, then those of the uncertainty.
    pub(crate) fn gradients(&mut self, levels: &mut LevelLosses) -> Result<(Tensor, Vec<Tensor>)> {
        let parts = self.config.train.accumulate;
        let mut sum: Option<(Tensor, Vec<Tensor>)> = None;
        for micro in 0..parts {
            let batch = self.next_batch()?;
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
    pub(crate) fn micro_batch(
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
        let part = 1.0 / train.accumulate as f64;
        let share = loss.mean.f_mul_scalar(part * self.scale())?;
        let beside = self.learned.iter().flat_map(|learned| learned.optimizer.params());
        let params: Vec<_> = self.optimizer.params().iter().chain(beside).collect();
        let grads = Tensor::f_run_backward(&[&share], &params, false, false)?;
        let grads = grads.into_iter().zip(params).map(|(grad, param)| {
            // The gradient of a parameter that the loss does not depend on is zero.
            let grad = if grad.defined() { grad } else { param.detach().f_zeros_like()? };
            Ok(grad.f_contiguous()?)
        });
        let reported = match &self.learned {
            None => loss.mean.detach().f_mul_scalar(part)?.f_to_kind(Kind::Double)?,
            Some(_) => plain_mean(&loss)?.f_mul_scalar(part)?,
        };
        Ok((reported, grads.collect::<Result<_>>()?))
    }
}
