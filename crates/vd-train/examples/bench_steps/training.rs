//! A training step with everything that it changes.

use tch::{Kind, Tensor};
use vd_diffusion::LossRequest;
use vd_tensor_ops::{Noise, Params};
use vd_train::{AdamW, DeviceStep, Share};
use vd_unet3d::{Cond, UNet3d};

use crate::{Bench, Result};

/// Everything that a training step changes.
pub(crate) struct Training {
    optimizer: AdamW,
    ema: Params,
    /// Only on a GPU with its kernels.
    device_step: Option<DeviceStep>,
}

impl Training {
    pub(crate) fn new(bench: &Bench) -> Result<Self> {
        let mut ema = Params::new(0, Kind::Float, bench.device);
        UNet3d::new(&bench.config, &mut ema.root())?;
        let optimizer = AdamW::new(&bench.params, [0.9, 0.999], 0.0);
        Ok(Training { optimizer, ema, device_step: None })
    }

    /// The state of the recording of a step's end.
    pub(crate) fn graphs(&self) -> Option<serde_json::Value> {
        let of = self.device_step.as_ref()?;
        Some(serde_json::json!({ "replayed": of.replayed(), "refused": of.refused() }))
    }

    /// Loss, gradients, AdamW and moving average. The learning rate is 0, so the weights stay those
    /// of the other side.
    pub(crate) fn step(&mut self, bench: &Bench, noise: &mut dyn Noise) -> Result<()> {
        let request = LossRequest::default();
        let x0 = bench.x.f_clamp(-1.0, 1.0)?;
        let loss = bench.diffusion.loss(&bench.net, &x0, &Cond::none(), request, noise)?;
        let grads = Tensor::f_run_backward(&[&loss.mean], self.optimizer.params(), false, false)?;
        let follow = Some((&self.ema, 0.995));
        let Some(on) = DeviceStep::machine(&[(&self.optimizer, Some(&self.ema))], &grads)? else {
            self.optimizer.step(0.0, &grads, 1.0, follow)?;
            return Ok(());
        };
        let device_step = match &mut self.device_step {
            Some(device_step) => device_step,
            none => {
                none.insert(DeviceStep::new((1, grads.len()), bench.device, bench.net.graphs())?)
            }
        };
        let share = Share { optimizer: &mut self.optimizer, lr: 0.0, follow };
        let loss = loss.mean.detach().f_to_kind(Kind::Double)?;
        device_step.step(&on, (&loss, &grads), 0.0, &mut [share])?;
        Ok(())
    }
}
