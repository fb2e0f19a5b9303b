//! A machine that runs nothing.

use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

use vd_torch::cuda::Launch;

use super::{Machine, Unit};

/// Notes which kernels would run; what they would have written is whatever lay there.
///
/// With [`super::imitated`] it tells on any computer what a layer or a network asks of a GPU.
#[derive(Debug, Default)]
pub struct Dry {
    kernels: Mutex<Vec<String>>,
}

impl Dry {
    /// The kernels since the last call, in their order.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.kernels.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Machine for Dry {
    /// Those of an H100.
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
