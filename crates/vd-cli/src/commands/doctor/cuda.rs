//! Reports whether vd can use the CUDA devices of this machine.

use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;
use tch::Device;
use vd_tensor_ops::kernels;
use vd_torch::cuda::{self, Nvrtc};
use vd_torch::{CudaStatus, Driver};

use crate::model::device_name;
use crate::output::bytes;

#[derive(Debug, Serialize)]
pub(super) struct Cuda {
    pub(super) available: bool,
    devices: usize,
    reason: Option<String>,
    driver: Option<DriverReport>,
    /// Why there is no driver to report on.
    driver_reason: Option<String>,
    /// The compiler of CUDA kernels.
    nvrtc: Option<PathBuf>,
    nvrtc_reason: Option<String>,
    /// The state of the kernels on each device.
    kernels: Vec<Kernels>,
    /// Whether the network can be recorded and replayed.
    graphs: bool,
    graphs_reason: Option<String>,
    /// How to enable CUDA, if that is possible.
    pub(super) remedy: Option<String>,
}

/// Whether a device runs all of the project's own kernels.
#[derive(Debug, Serialize)]
struct Kernels {
    device: String,
    ready: bool,
    /// Why not; libtorch's operations are used instead.
    reason: Option<String>,
}

impl Kernels {
    /// Compiles the kernels for the device unless they are cached, and loads them.
    fn of(device: Device) -> Kernels {
        let reason = kernels::cuda::state(device).err().map(|why| why.to_string());
        Kernels { device: device_name(device), ready: reason.is_none(), reason }
    }
}

#[derive(Debug, Serialize)]
struct DriverReport {
    release: Option<String>,
    /// The newest CUDA version that it supports.
    cuda: String,
    devices: Vec<Gpu>,
}

#[derive(Debug, Serialize)]
struct Gpu {
    name: String,
    memory_bytes: u64,
    compute_capability: String,
}

/// Queries libtorch, the driver and the loader.
pub(super) fn cuda(problems: &mut Vec<String>) -> Cuda {
    let (devices, reason) = match vd_torch::cuda_status() {
        Ok(CudaStatus::Ready { devices }) => (*devices, None),
        Ok(CudaStatus::Absent { why }) => (0, Some(why.clone())),
        Err(error) => {
            problems.push(error.to_string());
            (0, Some(error.to_string()))
        }
    };
    let (driver, driver_reason) = match vd_torch::driver() {
        Ok(driver) => (Some(DriverReport::from(driver)), None),
        Err(why) => (None, Some(why)),
    };
    let (nvrtc, nvrtc_reason) = match Nvrtc::get() {
        Ok(nvrtc) => (Some(nvrtc.file().to_path_buf()), None),
        Err(why) => (None, Some(why.to_string())),
    };
    let available = reason.is_none();
    let kernels = (0..devices).map(|n| Kernels::of(Device::Cuda(n))).collect();
    let graphs_reason = cuda::graphs().err().map(|error| error.to_string());
    Cuda {
        available,
        devices,
        reason,
        driver,
        driver_reason,
        nvrtc,
        nvrtc_reason,
        kernels,
        graphs: graphs_reason.is_none(),
        graphs_reason,
        remedy: None,
    }
}

impl From<Driver> for DriverReport {
    fn from(driver: Driver) -> Self {
        let devices = driver.devices.into_iter().map(|gpu| Gpu {
            name: gpu.name,
            memory_bytes: gpu.memory,
            compute_capability: gpu.capability,
        });
        DriverReport { release: driver.release, cuda: driver.cuda, devices: devices.collect() }
    }
}

/// What to do if a device is present but not used, or used without the compiler for its kernels.
pub(super) fn remedy(cuda: &Cuda, libtorch_has_cuda: bool) -> Option<String> {
    let driver = cuda.driver.as_ref()?;
    let what = if driver.devices.is_empty() {
        "the driver reports no device: check CUDA_VISIBLE_DEVICES and the output of `nvidia-smi`"
    } else if !libtorch_has_cuda {
        "run `cargo xtask setup --cuda`, or set LD_LIBRARY_PATH to the torch/lib folder of a Python's \
         torch 2.11.0"
    } else if !cuda.available {
        "unset VD_CUDA, or set it to auto; if it is, the driver may be older than libtorch's CUDA"
    } else if cuda.nvrtc.is_none() {
        "run `cargo xtask kernels`, or install nvidia-cuda-nvrtc alongside torch"
    } else {
        return None;
    };
    Some(what.to_owned())
}

pub(super) fn describe(out: &mut String, cuda: &Cuda) -> std::fmt::Result {
    match &cuda.reason {
        None => writeln!(out, "CUDA       {} device(s)", cuda.devices)?,
        Some(why) => writeln!(out, "CUDA       not used: {why}")?,
    }
    if let Some(driver) = &cuda.driver {
        let release = driver.release.as_deref().unwrap_or("unknown");
        writeln!(out, "           driver {release}, for CUDA up to {}", driver.cuda)?;
        for (k, gpu) in driver.devices.iter().enumerate() {
            let Gpu { name, memory_bytes, compute_capability } = gpu;
            let memory = bytes(*memory_bytes);
            writeln!(out, "           {k}: {name}, {memory}, sm {compute_capability}")?;
        }
        match (&cuda.nvrtc, &cuda.nvrtc_reason) {
            (Some(path), _) => writeln!(out, "           NVRTC: {}", path.display())?,
            (None, why) => {
                let why = why.as_deref().unwrap_or_default();
                writeln!(out, "           no NVRTC, so vd's own kernels cannot run: {why}")?;
            }
        }
        if let Some(why) = &cuda.graphs_reason {
            writeln!(out, "           {why}")?;
        }
    }
    for Kernels { device, reason, .. } in &cuda.kernels {
        match reason {
            None => writeln!(out, "           {device} runs vd's own kernels")?,
            Some(why) => writeln!(out, "           {device} cannot run vd's own kernels: {why}")?,
        }
    }
    match &cuda.remedy {
        Some(remedy) => writeln!(out, "           to do: {remedy}"),
        None => Ok(()),
    }
}
