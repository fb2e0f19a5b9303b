//! GPUs that were not measured: their makers' specifications, and assumptions.

use clap::ValueEnum;
use serde::Serialize;

/// The assumed fraction of a GPU's f32 rate that a step reaches.
pub(super) const ASSUMED_SHARE: f64 = 0.35;
/// The assumed GPU memory of the CUDA context and the libraries.
pub(super) const CONTEXT_BYTES: f64 = 0.8e9;

/// A card by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[value(rename_all = "kebab-case")]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Gpu {
    /// 141 GB
    H200,
    /// 80 GB
    H100,
    /// 80 GB
    #[value(name = "a100-80")]
    #[serde(rename = "a100-80")]
    A100Large,
    /// 40 GB
    A100,
    /// 48 GB
    L40s,
    /// 24 GB
    A10,
    /// 24 GB
    #[value(name = "rtx-4090")]
    #[serde(rename = "rtx-4090")]
    Rtx4090,
    /// 24 GB
    #[value(name = "rtx-3090")]
    #[serde(rename = "rtx-3090")]
    Rtx3090,
    /// 16 GB
    T4,
}

impl Gpu {
    /// Bytes of memory.
    pub(super) fn memory(self) -> f64 {
        match self {
            Gpu::H200 => 141e9,
            Gpu::H100 | Gpu::A100Large => 80e9,
            Gpu::L40s => 48e9,
            Gpu::A100 => 40e9,
            Gpu::A10 | Gpu::Rtx4090 | Gpu::Rtx3090 => 24e9,
            Gpu::T4 => 16e9,
        }
    }

    /// Floating-point operations per second in f32, without tensor cores, as specified by its
    /// maker.
    pub(super) fn rate(self) -> f64 {
        match self {
            Gpu::H200 | Gpu::H100 => 67e12,
            Gpu::A100Large | Gpu::A100 => 19.5e12,
            Gpu::L40s => 91.6e12,
            Gpu::A10 => 31.2e12,
            Gpu::Rtx4090 => 82.6e12,
            Gpu::Rtx3090 => 35.6e12,
            Gpu::T4 => 8.1e12,
        }
    }
}
