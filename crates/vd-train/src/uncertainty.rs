//! The learned uncertainty of the loss, trained beside the network.

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};
use vd_diffusion::{Loss, Uncertainty};
use vd_tensor_ops::{Params, Weights};
use vd_torch::upload;

use crate::optimizer::AdamW;
use crate::{Error, Result, TrainConfig};

/// The prefix of all its parameters in its file, and of nothing else.
const PREFIX: &str = "uncertainty";

/// A learned uncertainty with its own optimiser.
///
/// It is not part of the network: it has its own file in a checkpoint, and sampling does not use
/// it.
#[derive(Debug)]
pub(crate) struct Learned {
    pub(crate) uncertainty: Uncertainty,
    pub(crate) params: Params,
    pub(crate) optimizer: AdamW,
}

impl Learned {
    /// A new uncertainty if the config requests one.
    pub(crate) fn new(train: &TrainConfig, device: Device) -> Result<Option<Self>> {
        if train.uncertainty == 0 {
            return Ok(None);
        }
        // None of its initial values are random.
        let mut params = Params::new(0, Kind::Float, device);
        let channels = train.uncertainty as i64;
        let uncertainty = Uncertainty::new(&mut params.root().sub(PREFIX), channels)?;
        // Without weight decay, as in the paper: decay would pull the logarithm of the loss to 0.
        let optimizer = AdamW::new(&params, train.betas, 0.0);
        Ok(Some(Learned { uncertainty, params, optimizer }))
    }

    /// Parameters and the optimiser's state in one map.
    pub(crate) fn state(&self) -> BTreeMap<String, Tensor> {
        let mut state = self.optimizer.state();
        state.extend(self.params.tensors());
        state
    }

    /// Restores the file of a checkpoint.
    pub(crate) fn load(&mut self, path: &Path) -> Result<()> {
        let own = format!("{PREFIX}.");
        // Read to the CPU: the step count stays there, the rest is copied to its device.
        let file = Weights::read(path, Device::Cpu)?.tensors;
        let (params, state) = file.into_iter().partition(|(name, _)| name.starts_with(&own));
        let unfit = |e: String| Error::checkpoint(path, e);
        self.params.load(&params).map_err(|e| unfit(e.to_string()))?;
        self.optimizer.load(&state).map_err(|e| unfit(e.to_string()))
    }
}

/// The mean of a loss without the effect of an uncertainty, a scalar in f64.
pub(crate) fn plain_mean(loss: &Loss) -> Result<Tensor> {
    let means = loss.per_level.f_to_kind(Kind::Double)?;
    let shares = loss.counts.f_div(&loss.counts.f_sum(Kind::Double)?)?;
    Ok(means.f_mul(&upload(&shares, means.device())?)?.f_sum(Kind::Double)?)
}
