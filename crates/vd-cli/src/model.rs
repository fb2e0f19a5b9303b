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

/// A checkpoint with its network, its process and its encoder.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) loaded: LoadedNetwork,
    pub(crate) diffusion: Diffusion,
    encoder: Option<Box<dyn TextEncoder>>,
    /// For each signal, whether what stands in for it was trained.
    signals: Vec<(String, NullEmbedding)>,
    /// What brings its clips back to their unit; `None` where they are pixels.
    pub(crate) normaliser: Option<Normaliser>,
    pub(crate) device: Device,
    /// Whether it was said that its network is not recorded.
    told_of_graphs: Cell<bool>,
}

impl Model {
    /// Opens a checkpoint and reads the weights that were asked for; its encoder, which may lie
    /// elsewhere and is large, is opened by itself.
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

    /// The same, with libtorch's operators casting so.
    pub(crate) fn with_autocast(mut self, autocast: Autocast) -> Self {
        self.loaded.network.set_autocast(autocast);
        self
    }

    /// The same, recorded and replayed on CUDA, or not.
    pub(crate) fn with_graphs(mut self, graphs: bool) -> Self {
        self.loaded.network.set_graphs(graphs);
        self
    }

    /// Says once why its network should be recorded and is not.
    pub(crate) fn tell_of_graphs(&self) {
        if let Some(why) = self.loaded.network.graph_state().refused
            && !self.told_of_graphs.replace(true)
        {
            tracing::warn!("continuing without CUDA graphs, more slowly: {why}");
        }
    }

    /// Opens what encodes prompts, in `moved` where it is not where it was.
    pub(crate) fn open_encoder(&mut self, moved: Option<&Path>) -> Result<()> {
        self.encoder = match moved {
            Some(path) => self.checkpoint.encoder_at(path).context("--encoder")?,
            None => self.checkpoint.encoder().context(
                "the model's encoder (give --encoder DIR if it was moved after training)",
            )?,
        };
        Ok(())
    }

    /// What the network is made of.
    pub(crate) fn config(&self) -> &UNet3dConfig {
        self.loaded.network.config()
    }

    /// Whether what it learned from lies in [-1, 1], as pixels do.
    pub(crate) fn is_within(&self) -> bool {
        self.normaliser.as_ref().is_none_or(Normaliser::is_within)
    }

    /// What draws clips from it.
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

/// Says where a GPU computes without the project's kernels, which nothing else shows but its time.
pub(crate) fn warn_without_kernels(device: Device) {
    if let Some(why) = without_kernels(device) {
        tracing::warn!("{why}");
    }
}

fn without_kernels(device: Device) -> Option<String> {
    // Whoever asked for the reference has it.
    if !device.is_cuda() || kernels::precision() == Precision::Reference {
        return None;
    }
    let why = kernels::cuda::state(device).err()?;
    let name = device_name(device);
    Some(format!(
        "{name} cannot run vd's own kernels; using libtorch's slower operations instead: {why}"
    ))
}

/// A device as configs spell it.
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
        // No machine has so many.
        let said = without_kernels(Device::Cuda(999)).unwrap_or_default();
        assert!(said.starts_with("cuda:999 cannot run vd's own kernels"), "{said}");
        assert!(said.contains("kernels on Cuda(999)"), "{said}");
    }
}
