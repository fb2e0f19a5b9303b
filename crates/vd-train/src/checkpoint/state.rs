//! What a run needs to resume, besides its weights.

use std::path::Path;

use serde::{Deserialize, Serialize};
use vd_data::Cursor;
use vd_tensor_ops::kernels::{self, Precision};
use vd_torch::Autocast;

use crate::{Error, LossScale, Result};

/// The checkpoint format that this version writes.
const FORMAT: u32 = 1;

/// The content of `state.json`. Random draws need no saved state: each is keyed by seed and step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The version of the checkpoint format.
    pub format: u32,
    /// Steps done.
    pub step: u64,
    /// The seed of the run.
    pub seed: u64,
    /// The position of the next batch.
    pub cursor: Cursor,
    /// Frames per second of the clips.
    pub fps: f64,
    /// The machine that the numbers were computed on.
    pub machine: Machine,
    /// The identity of its text encoder
    /// ([`TextEncoder::identity`](vd_text_cond::TextEncoder::identity)), if known; older versions
    /// did not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// The scale of the loss, with `train.autocast = "fp16"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
}

/// What the exact bytes of a run depend on, besides its config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Threads of libtorch's operators.
    pub threads: usize,
    /// The version of the libtorch that is loaded.
    pub torch: String,
    /// The code path of the kernels.
    pub kernels: String,
    /// The kind of device: `cpu` or `cuda`.
    pub device: String,
}

impl Machine {
    /// Describes this process, computing on `device`.
    pub fn here(device: tch::Device, precision: Precision, autocast: Autocast) -> Self {
        // On a CPU libtorch does the casting, without the kernels.
        let by_libtorch = !device.is_cuda() && !autocast.is_off();
        let precision = if by_libtorch { Precision::Reference } else { precision };
        let road = kernels::road_on(device, precision);
        Machine {
            threads: vd_torch::threads(),
            torch: vd_torch::loaded_version().unwrap_or_else(|| vd_torch::version().to_owned()),
            kernels: match autocast {
                Autocast::Off => road,
                _ => format!("{road}, autocast to {autocast}"),
            },
            device: if device.is_cuda() { "cuda" } else { "cpu" }.to_owned(),
        }
    }

    /// How this differs from the machine of a checkpoint, in words.
    pub fn differences(&self, then: &Machine) -> Vec<String> {
        let pairs = [
            ("threads", then.threads.to_string(), self.threads.to_string()),
            ("libtorch", then.torch.clone(), self.torch.clone()),
            ("kernels", then.kernels.clone(), self.kernels.clone()),
            ("device", then.device.clone(), self.device.clone()),
        ];
        let differ = pairs.into_iter().filter(|(_, then, now)| then != now);
        differ.map(|(what, then, now)| format!("{what}: {then} then, {now} now")).collect()
    }
}

impl State {
    /// The state of a run in the current format, without an encoder identity.
    pub fn new(step: u64, seed: u64, cursor: Cursor, fps: f64, machine: Machine) -> Self {
        State { format: FORMAT, step, seed, cursor, fps, machine, encoder: None, loss_scale: None }
    }

    pub(super) fn read(path: &Path) -> Result<State> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let damaged = |e: serde_json::Error| Error::checkpoint(path, format!("not a state: {e}"));
        // The format is checked first: a newer one may have other fields.
        let value: serde_json::Value = serde_json::from_str(&text).map_err(damaged)?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format <= u64::from(FORMAT) => {
                serde_json::from_value(value).map_err(damaged)
            }
            other => {
                let got = other.map_or("none".to_owned(), |n| n.to_string());
                let what = format!("expected checkpoint format {FORMAT} or older, got {got}");
                Err(Error::checkpoint(path, what))
            }
        }
    }

    pub(super) fn to_json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::checkpoint(Path::new("state.json"), e.to_string()))?;
        Ok(text + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_names_its_kernels_and_a_gpu_without_any_the_reference() {
        let here = |device, precision| Machine::here(device, precision, Autocast::Off).kernels;
        let cpu = here(tch::Device::Cpu, Precision::F32);
        assert_eq!(cpu, kernels::road(Precision::F32));
        assert_eq!(here(tch::Device::Cuda(999), Precision::F32), "reference");
        let cast = Machine::here(tch::Device::Cpu, Precision::F32, Autocast::Bf16).kernels;
        assert_eq!(cast, "reference, autocast to bf16");
    }

    #[test]
    fn another_machine_is_described_by_what_differs() {
        let then = Machine::here(tch::Device::Cpu, Precision::Reference, Autocast::Off);
        assert!(then.differences(&then).is_empty());
        let now =
            Machine { threads: then.threads + 1, kernels: "fused".to_owned(), ..then.clone() };
        let threads = format!("threads: {} then, {} now", then.threads, now.threads);
        let kernels = "kernels: reference then, fused now".to_owned();
        assert_eq!(now.differences(&then), [threads, kernels]);
    }
}
