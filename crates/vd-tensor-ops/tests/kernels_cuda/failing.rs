//! An emulated GPU that fails when it is told to.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};

use vd_tensor_ops::kernels::cuda::{Machine, Unit};
use vd_tensor_ops::torch;
use vd_tensor_ops::torch::cuda::Launch;

/// Runs kernels until it is told to fail.
#[derive(Debug, Default)]
pub(crate) struct Failing {
    /// Whether kernels fail from now on.
    pub(crate) now: AtomicBool,
}

impl Machine for Failing {
    fn multiprocessors(&self) -> u32 {
        crate::emulator::machine().multiprocessors()
    }

    fn prepare(&self, unit: Unit) -> torch::Result<()> {
        crate::emulator::machine().prepare(unit)
    }

    unsafe fn run(
        &self,
        unit: Unit,
        kernel: &str,
        launch: Launch,
        params: *const c_void,
    ) -> torch::Result<()> {
        if self.now.load(Ordering::Relaxed) {
            let (what, why) = (kernel.to_owned(), "refused".to_owned());
            return Err(torch::Error::Driver { what, why });
        }
        // SAFETY: the caller's.
        unsafe { crate::emulator::machine().run(unit, kernel, launch, params) }
    }
}
