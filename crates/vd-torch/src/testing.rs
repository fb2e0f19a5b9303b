//! Shared by tests of all crates: the device to compute on, and the location of test files.

use std::env;
use std::path::PathBuf;

use tch::Device;

use crate::{DeviceChoice, allow_tf32, deterministic_convolutions, synchronize};

/// The variable that names the test device.
const VARIABLE: &str = "VD_TEST_DEVICE";

/// The device named by `VD_TEST_DEVICE`: `cpu` (if unset), `cuda` or `cuda:N`.
///
/// # Panics
/// An unknown name: tests on another device would prove nothing.
pub fn choice() -> DeviceChoice {
    let name = env::var(VARIABLE).unwrap_or_else(|_| "cpu".to_owned());
    name.parse().unwrap_or_else(|error| panic!("{VARIABLE}: {error}"))
}

/// The test device, [`choice`]. On CUDA this turns TF32 off for the process and makes convolutions
/// deterministic: some tests compare bytes.
///
/// # Panics
/// As [`choice`], and a device that is not available.
pub fn device() -> Device {
    let device = choice().resolve().and_then(|device| {
        if device.is_cuda() {
            allow_tf32(false)?;
            deterministic_convolutions(true)?;
        }
        Ok(device)
    });
    device.unwrap_or_else(|error| panic!("{VARIABLE}: {error}"))
}

/// A test tolerance: `cpu` on the CPU, and at least 1e-4 on CUDA, where sums are computed in
/// another order.
pub fn tolerance(cpu: f64) -> f64 {
    if device().is_cuda() { cpu.max(1e-4) } else { cpu }
}

/// The result of a call, once the test device has computed it; for timing.
///
/// # Panics
/// An error of the device.
pub fn finished<R>(result: R) -> R {
    if let Err(error) = synchronize(device()) {
        panic!("{VARIABLE}: {error}");
    }
    std::hint::black_box(result)
}

/// The folder of the crate whose test runs: cargo sets `CARGO_MANIFEST_DIR` when it starts a test,
/// and other launchers set the same variable; otherwise it is where the test was built (`built`).
pub fn folder(built: &str) -> PathBuf {
    env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(built), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_where_the_tests_run() {
        assert!(folder(env!("CARGO_MANIFEST_DIR")).join("src/testing.rs").is_file());
    }
}
