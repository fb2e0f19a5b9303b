//! A machine that runs nothing, for dry runs.

use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

use vd_torch::cuda::Launch;

use super::{Machine, Unit};

/// Notes which kernels would run; their outputs stay uninitialised.
///
/// With [`super::imitated`] it shows on any computer which kernels a layer or a network launches on
/// a GPU.
#[derive(Debug, Default)]
pub struct Dry {
    kernels: Mutex<Vec<String>>,
}

impl Dry {
    /// The kernels since the last call, in order.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.kernels.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Machine for Dry {
    /// As on an H100.
    fn multiprocessors(&self) -> u32 {
        132
    }

    fn prepare(&self, _unit: Unit) -> vd_torch::Result<()> {
        Ok(())
    }

    unsafe fn run(
        &self,
        _unit: Unit,
        kernel: &str,
        _launch: Launch,
        _params: *const c_void,
    ) -> vd_torch::Result<()> {
        let mut kernels = self.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        kernels.push(kernel.to_owned());
        Ok(())
    }
}
