//! A checkpoint, opened for use.

use std::cell::Cell;
use std::path::Path;

use anyhow::{Context, Result};
use tch::Device;
use vd_data::Normaliser;
use vd_diffusion::Diffusion;
use vd_tensor_ops::kernels::{self, Precision};
use vd_text_cond::{Generator, NullEmbedding, TextEncoder};
use vd_torch::Autocast;
use vd_train::{Checkpoint, LoadedNetwork, WeightKind};
use vd_unet3d::UNet3dConfig;

use crate::args::WeightsName;

/// A checkpoint with its network, its diffusion process and its encoder.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) loaded: LoadedNetwork,
    pub(crate) diffusion: Diffusion,
    encoder: Option<Box<dyn TextEncoder>>,
    /// The signals, and whether the null embedding of each was trained.
    signals: Vec<(String, NullEmbedding)>,
    /// The mapping of its clips back to their unit; `None` if they are pixels.
    pub(crate) normaliser: Option<Normaliser>,
    pub(crate) device: Device,
    /// Whether it was reported that its network is not recorded.
    told_of_graphs: Cell<bool>,
}

impl Model {
    /// Opens a checkpoint and reads the requested weights; its encoder, which is large and may have
    /// been moved, is opened separately.
    pub(crate) fn open(
        path: &Path,
        weights: Option<WeightsName>,
        device: Device,
        precision: Precision,
    ) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let mut loaded = checkpoint.network(weights.map(WeightKind::from), device)?;
        loaded.network.set_precision(precision);
        let diffusion = Diffusion::new(&checkpoint.config.diffusion)?;
        let encoder = None;
        let signals = checkpoint.signal_nulls();
        let normaliser = checkpoint.normaliser()?;
        let told_of_graphs = Cell::new(false);
        Ok(Model {
            checkpoint,
            loaded,
            diffusion,
            encoder,
            signals,
            normaliser,
            device,
            told_of_graphs,
        })
    }

    /// The same, with this autocast of libtorch's operators.
    pub(crate) fn with_autocast(mut self, autocast: Autocast) -> Self {
        self.loaded.network.set_autocast(autocast);
        self
    }

    /// The same, with or without recording and replay on CUDA.
    pub(crate) fn with_graphs(mut self, graphs: bool) -> Self {
        self.loaded.network.set_graphs(graphs);
        self
    }

    /// Reports once why its network, which should be recorded, is not.
    pub(crate) fn tell_of_graphs(&self) {
        if let Some(why) = self.loaded.network.graph_state().refused
            && !self.told_of_graphs.replace(true)
        {
            tracing::warn!("continuing without CUDA graphs, more slowly: {why}");
        }
    }

    /// Opens the prompt encoder, at `moved` if its path has changed.
    pub(crate) fn open_encoder(&mut self, moved: Option<&Path>) -> Result<()> {
        self.encoder = match moved {
            Some(path) => self.checkpoint.encoder_at(path).context("--encoder")?,
            None => self.checkpoint.encoder().context(
                "the model's encoder (give --encoder DIR if it was moved after training)",
            )?,
        };
        Ok(())
    }

    /// The network's config.
    pub(crate) fn config(&self) -> &UNet3dConfig {
        self.loaded.network.config()
    }

    /// Whether its training data lie in [-1, 1], as pixels do.
    pub(crate) fn is_within(&self) -> bool {
        self.normaliser.as_ref().is_none_or(Normaliser::is_within)
    }

    /// The generator that samples clips from it.
    pub(crate) fn generator(&self) -> Generator<'_> {
        Generator {
            backbone: &self.loaded.network,
            diffusion: &self.diffusion,
            encoder: self.encoder.as_deref(),
            null: self.checkpoint.null(),
            signals: &self.signals,
        }
    }
}

impl From<WeightsName> for WeightKind {
    fn from(name: WeightsName) -> Self {
        match name {
            WeightsName::Ema => WeightKind::Ema,
            WeightsName::Model => WeightKind::Model,
        }
    }
}

/// Warns if a GPU computes without the project's kernels, which otherwise only shows in its speed.
pub(crate) fn warn_without_kernels(device: Device) {
    if let Some(why) = without_kernels(device) {
        tracing::warn!("{why}");
    }
}

fn without_kernels(device: Device) -> Option<String> {
    // The reference was requested, so there is nothing to warn about.
    if !device.is_cuda() || kernels::precision() == Precision::Reference {
        return None;
    }
    let why = kernels::cuda::state(device).err()?;
    let name = device_name(device);
    Some(format!(
        "{name} cannot run vd's own kernels; using libtorch's slower operations instead: {why}"
    ))
}

/// A device as written in configs.
pub(crate) fn device_name(device: Device) -> String {
    match device {
        Device::Cpu => "cpu".to_owned(),
        Device::Cuda(n) => format!("cuda:{n}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_without_kernels_is_told_with_its_reason_and_a_cpu_is_not() {
        assert_eq!(without_kernels(Device::Cpu), None);
        // No machine has that many.
        let said = without_kernels(Device::Cuda(999)).unwrap_or_default();
        assert!(said.starts_with("cuda:999 cannot run vd's own kernels"), "{said}");
        assert!(said.contains("kernels on Cuda(999)"), "{said}");
    }
}
