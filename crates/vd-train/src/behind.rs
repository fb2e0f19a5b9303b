//! Asynchronous steps: the host does not wait for the device, and reads the results of a step one
//! step later.

use std::sync::Arc;

use tch::Tensor;
use vd_data::{Batch, Cursor};
use vd_tensor_ops::kernels;
use vd_tensor_ops::kernels::cuda::{self, Machine, Went};
use vd_torch::{Download, upload};

use crate::Result;
use crate::device_step::{DeviceStep, Share};
use crate::metrics::LevelLosses;
use crate::step::Outcome;
use crate::trainer::Trainer;
use crate::uncertainty::Learned;

/// Numbers in a report before the gradient norms.
const HEAD: usize = 3;

/// A step that is done or in flight.
#[derive(Debug)]
pub(crate) enum Launched {
    /// Its results are known.
    Done(Outcome),
    /// It is still running on the device.
    Behind(Behind),
}

/// The pending results of a step, and the state before it.
#[derive(Debug)]
pub(crate) struct Behind {
    /// The device's report and the mean losses of all noise levels, f64.
    read: Download,
    levels: LevelLosses,
    gradients: usize,
    lr: f64,
    /// Steps done before.
    step: u64,
    cursor: Cursor,
    /// The step counts of the optimisers, that of the network and that of the uncertainty, before
    /// it.
    counts: (i64, Option<i64>),
}

impl Launched {
    /// Whether its results can be read without waiting.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Launched::Done(_))
    }
}

impl Trainer {
    /// The machine for asynchronous steps, if there is one: a GPU with its kernels.
    ///
    /// With fp16 there is none: the next loss scale, and whether AdamW counts the step, depend on
    /// the results, and a skipped step must not halt the steps after it.
    pub(crate) fn steps_behind(&self, grads: &[Tensor]) -> Result<Option<Arc<dyn Machine>>> {
        if self.loss_scale.is_some() || cuda::machine(self.device).is_none() {
            return Ok(None);
        }
        let mut optimizers = vec![(&self.optimizer, Some(&self.ema))];
        optimizers.extend(self.learned.iter().map(|learned| (&learned.optimizer, None)));
        kernels::with(self.config.train.precision, || DeviceStep::machine(&optimizers, grads))
    }

    /// Launches a step on the device, which changes nothing if this step or an earlier one is bad.
    pub(crate) fn step_behind(
        &mut self,
        on: &Arc<dyn Machine>,
        (loss, grads): (&Tensor, &[Tensor]),
        mut levels: LevelLosses,
    ) -> Result<Launched> {
        let train = &self.config.train;
        let lr = train.learning_rate().at(self.step);
        let counts = self.counts();
        let sizes = (1 + usize::from(self.learned.is_some()), grads.len());
        let mut device_step = match self.device_step.take() {
            Some(device_step) => device_step,
            None => DeviceStep::new(sizes, self.device, train.graphs)?,
        };
        // After an error in the middle, some weights are those of this step and some those of the
        // next.
        self.sound = false;
        let follow = Some((&self.ema, train.ema_decay().at(self.step)));
        let mut shares = vec![Share { optimizer: &mut self.optimizer, lr, follow }];
        if let Some(Learned { optimizer, .. }) = &mut self.learned {
            shares.push(Share { optimizer, lr, follow: None });
        }
        let report = device_step.step(on, (loss, grads), train.clip, &mut shares)?;
        let mut read = vec![report.shallow_clone()];
        read.append(&mut levels.means);
        let behind = Behind {
            read: Download::begin(&Tensor::f_cat(&read, 0)?)?,
            levels,
            gradients: grads.len(),
            lr,
            step: self.step,
            cursor: self.cursor,
            counts,
        };
        self.device_step = Some(device_step);
        self.step_is_done();
        self.sound = true;
        if self.step < self.config.train.steps {
            // After the launches, so that data is loaded while the device works. A loading error
            // belongs to the next step.
            self.ahead = Some(self.load_batch());
        }
        Ok(Launched::Behind(behind))
    }

    /// The results of a step; waits for the device if the step is not done yet.
    ///
    /// # Errors
    /// A loss or a gradient that is not finite: this step and all later ones have changed nothing,
    /// and are no longer counted.
    pub(crate) fn look(&mut self, launched: Launched) -> Result<Outcome> {
        let Behind { read, levels, gradients, lr, step, cursor, counts } = match launched {
            Launched::Done(outcome) => return Ok(outcome),
            Launched::Behind(behind) => behind,
        };
        let read = read.wait().inspect_err(|_| self.sound = false)?;
        let read: Vec<f64> = Vec::try_from(&read)?;
        let (report, means) = read.split_at(HEAD + gradients);
        let (loss, grad_norm) = (report[1], report[2]);
        if Went::of(report[0]) == Went::Well {
            let loss_by_log_snr = levels.binned(means)?;
            let (loss_scale, skipped) = (None, false);
            let step = step + 1;
            return Ok(Outcome { step, loss, loss_by_log_snr, lr, grad_norm, loss_scale, skipped });
        }
        (self.step, self.cursor) = (step, cursor);
        self.optimizer.count(counts.0);
        if let (Some(learned), Some(count)) = (&mut self.learned, counts.1) {
            learned.optimizer.count(count);
        }
        // The loader is ahead of the cursor, and the data that it has loaded belongs to no step.
        self.ahead = None;
        self.device_step = None;
        Err(self.not_finite(loss, &|gradient| !report[HEAD + gradient].is_finite()))
    }

    fn counts(&self) -> (i64, Option<i64>) {
        let beside = self.learned.as_ref().map(|learned| learned.optimizer.counted());
        (self.optimizer.counted(), beside)
    }

    /// The next micro-batch, with its pixels on the device or being copied there.
    pub(crate) fn next_batch(&mut self) -> Result<Batch> {
        let batch = match self.ahead.take() {
            Some(ahead) => ahead?,
            None => self.load_batch()?,
        };
        self.reached = batch.cursor_after;
        Ok(batch)
    }

    fn load_batch(&mut self) -> Result<Batch> {
        let mut batch = self.loader.next()?;
        batch.video = upload(&batch.video, self.device)?;
        Ok(batch)
    }
}
