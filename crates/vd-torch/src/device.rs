//! The user's choice of a device, as configs and command lines spell it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tch::Device;

use crate::init::{CudaStatus, cuda_status, tune_allocator};
use crate::{Error, Result};

/// Where to compute: `"auto"`, `"cpu"` or `"cuda:N"` in configs and on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The first CUDA device if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// One CUDA device, counted from 0.
    Cuda(usize),
}

impl DeviceChoice {
    /// The device that this choice means on this machine.
    ///
    /// `Cpu` takes precedence over any `VD_CUDA` and does not load the CUDA library: a process that
    /// needs both devices resolves the CUDA one first.
    ///
    /// The first call, whatever the choice, has glibc keep freed memory in the process for good
    /// (`mallopt`): returning every large block to the kernel costs more than many a layer.
    ///
    /// # Errors
    /// A CUDA device that does not exist; for choices other than `Cpu`, `VD_CUDA=require` without a
    /// usable CUDA, and an unknown `VD_CUDA`.
    pub fn resolve(self) -> Result<Device> {
        if self == DeviceChoice::Cpu {
            tune_allocator();
            return Ok(Device::Cpu);
        }
        let status = cuda_status()?;
        match self {
            DeviceChoice::Cpu => Ok(Device::Cpu),
            DeviceChoice::Auto => Ok(match status {
                CudaStatus::Ready { .. } => Device::Cuda(0),
                CudaStatus::Absent { .. } => Device::Cpu,
            }),
            DeviceChoice::Cuda(n) => match status {
                CudaStatus::Ready { devices } if n < *devices => Ok(Device::Cuda(n)),
                CudaStatus::Ready { devices } => Err(Error::NoCuda {
                    wanted: n.to_string(),
                    why: format!("this machine has {devices}, counted from 0"),
                }),
                CudaStatus::Absent { why } => {
                    Err(Error::NoCuda { wanted: n.to_string(), why: why.clone() })
                }
            },
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::Cpu => f.write_str("cpu"),
            DeviceChoice::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "cuda" => Ok(DeviceChoice::Cuda(0)),
            _ => s
                .strip_prefix("cuda:")
                .and_then(|n| n.parse().ok())
                .map(DeviceChoice::Cuda)
                .ok_or_else(|| Error::BadDevice(s.to_owned())),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = Error;

    fn try_from(s: String) -> Result<Self> {
        s.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_round_trip_and_nonsense_is_refused() {
        for choice in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda(3)] {
            assert_eq!(choice.to_string().parse::<DeviceChoice>().unwrap(), choice);
        }
        for bad in ["", "gpu", "cuda:", "cuda:x", "CPU"] {
            let message = bad.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(message.contains("cuda:N"), "{message}");
        }
    }

    #[test]
    fn a_device_beyond_the_last_is_refused_with_a_reason() {
        let message = DeviceChoice::Cuda(4096).resolve().unwrap_err().to_string();
        assert!(message.contains("4096") && message.contains("vd doctor"), "{message}");
    }
}
