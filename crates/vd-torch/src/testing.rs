//! What tests of all crates share: the device that they compute on, and where their files are.

use std::env;
use std::path::PathBuf;

use tch::Device;

use crate::{DeviceChoice, allow_tf32, deterministic_convolutions, synchronize};

/// The variable that names the device of the tests.
const VARIABLE: &str = "VD_TEST_DEVICE";

/// What `VD_TEST_DEVICE` names: `cpu` (where it is not set), `cuda` or `cuda:N`.
///
/// # Panics
/// A name that is not understood: tests that ran on another device would show nothing.
pub fn choice() -> DeviceChoice {
    let name = env::var(VARIABLE).unwrap_or_else(|_| "cpu".to_owned());
    name.parse().unwrap_or_else(|error| panic!("{VARIABLE}: {error}"))
}

/// The device of the tests, [`choice`]. On CUDA, TF32 is off from here on, and convolutions give the same
/// bits every time: some tests compare bytes.
///
/// # Panics
/// As [`choice`], and a device that cannot be had.
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

/// A tolerance of the tests: `cpu` there, and on CUDA, where sums are taken in another order,
/// at least 1e-4.
pub fn tolerance(cpu: f64) -> f64 {
    if device().is_cuda() { cpu.max(1e-4) } else { cpu }
}

/// What came of a call, once the device of the tests has computed it; for what is timed.
///
/// # Panics
/// An error of the device.
pub fn finished<R>(result: R) -> R {
    if let Err(error) = synchronize(device()) {
        panic!("{VARIABLE}: {error}");
    }
    std::hint::black_box(result)
}

/// The folder of the crate whose test runs: cargo says it when it starts a test, and whoever
/// starts one elsewhere says it by the same variable, `CARGO_MANIFEST_DIR`; else it is where
/// the test was built (`built`).
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
