//! Measures the cost of a run's steps on this machine by executing a few.

use std::time::Instant;

use vd_data::{Dataset, FireworksConfig, Source};
use vd_tensor_ops::kernels::cpu::Isa;

use crate::config::SignalFrom;
use crate::trainer::Trainer;
use crate::{Result, RunConfig};

/// Steps before the timed ones: the first one allocates the optimiser's memory and packs weights.
const WARM_UPS: usize = 2;

/// The result of [`probe`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Probed {
    /// Seconds of each timed step.
    pub seconds: Vec<f64>,
    /// The number of trainable values of the network.
    pub parameters: u64,
}

/// Executes `steps` steps of a run, after two warm-up steps, on generated clips instead of its
/// data, and writes nothing.
///
/// Conditioning inputs that come from the run's data (columns, folders) are left out, since their
/// cost is negligible; those made from the clip itself are kept. Clips have 3 channels if
/// generators do not support the run's number of channels.
///
/// # Errors
/// As [`train`](crate::train), except those of its files.
pub fn probe(config: &RunConfig, steps: usize) -> Result<Probed> {
    let config = stand_in(config);
    let device = config.train.device.resolve()?;
    Isa::named()?;
    if config.train.threads > 0 {
        vd_torch::set_threads(config.train.threads);
    }
    let dataset = Dataset::open(&config.data)?;
    let encoder = config.text.as_ref().map(|text| text.encoder.build()).transpose()?;
    let mut trainer = Trainer::new(&config, dataset, encoder, device, None)?;
    for _ in 0..WARM_UPS {
        trainer.advance()?;
    }
    let mut seconds = Vec::with_capacity(steps);
    for _ in 0..steps {
        // A step ends by reading its loss, which waits for the device.
        let begun = Instant::now();
        trainer.advance()?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    Ok(Probed { seconds, parameters: trainer.params.count() as u64 })
}

/// The run with generated clips instead of its data.
fn stand_in(config: &RunConfig) -> RunConfig {
    let mut config = config.clone();
    config.data.source = Source::Fireworks(FireworksConfig::default());
    if let Some(images) = &mut config.data.images {
        images.source = None;
    }
    let drawable = matches!(config.data.channels, 1 | 3);
    if !drawable {
        config.data.channels = 3;
        config.model.channels = 3;
        config.model.out_dim = Some(3);
    }
    config.signals.retain(|_, signal| {
        let own =
            matches!(signal.from, SignalFrom::LowResolution { .. } | SignalFrom::Masked { .. });
        own && drawable
    });
    config
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::TrainConfig;
    use vd_data::DataConfig;
    use vd_unet3d::UNet3dConfig;

    #[test]
    fn steps_are_done_without_the_data_and_without_files() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("run");
        for channels in [1, 2] {
            let config = RunConfig {
                model: UNet3dConfig {
                    dim: 4,
                    dim_mults: vec![1],
                    channels: channels as i64,
                    ..UNet3dConfig::default()
                },
                diffusion: vd_diffusion::DiffusionConfig::default(),
                text: None,
                signals: std::collections::BTreeMap::new(),
                data: DataConfig {
                    source: Source::folder("there/is/no/such/folder"),
                    frames: 2,
                    size: [8, 8],
                    channels,
                    ..DataConfig::default()
                },
                train: TrainConfig { out: out.clone(), batch: 2, ..TrainConfig::default() },
            };
            let probed = probe(&config, 3).unwrap();
            assert_eq!(probed.seconds.len(), 3);
            assert!(probed.seconds.iter().all(|s| *s > 0.0) && probed.parameters > 1000);
            assert!(!out.exists());
        }
    }
}
