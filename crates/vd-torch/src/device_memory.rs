//! Device memory, as libtorch's allocator counts it, and out-of-memory errors.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};

use tch::Device;

use crate::graphs::Alone;
use crate::{Result, shim};

/// How libtorch, its libraries and CUDA's driver report that memory ran out, on devices and on the CPU.
const OUT_OF_MEMORY: [&str; 5] = [
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDA_ERROR_OUT_OF_MEMORY",
];

/// Device memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Held by live tensors.
    pub allocated: u64,
    /// Peak held by tensors, since the start or [`restart_device_peak`].
    pub peak_allocated: u64,
    /// Reserved from the device, including memory cached for reuse.
    pub reserved: u64,
    /// Peak reserved.
    pub peak_reserved: u64,
}

/// Memory that libtorch's allocator has taken of a CUDA device; `None` for the CPU, which has no
/// such allocator (see [`peak_resident`](crate::peak_resident)).
///
/// # Errors
/// A device that libtorch does not have.
pub fn device_memory(device: Device) -> Result<Option<DeviceMemory>> {
    let Device::Cuda(index) = device else { return Ok(None) };
    let mut figures = [0i64; 4];
    shim::call(|error| {
        // SAFETY: writes four numbers, and the error.
        unsafe { shim::vd_device_memory(index as i32, figures.as_mut_ptr(), error) }
    })?;
    let [allocated, peak_allocated, reserved, peak_reserved] = figures.map(|n| n.max(0) as u64);
    Ok(Some(DeviceMemory { allocated, peak_allocated, reserved, peak_reserved }))
}

/// Restarts the peaks of [`device_memory`]; does nothing for the CPU.
///
/// # Errors
/// A device that libtorch does not have.
pub fn restart_device_peak(device: Device) -> Result<()> {
    let Device::Cuda(index) = device else { return Ok(()) };
    shim::call(|error| {
        // SAFETY: takes a number, writes the error.
        unsafe { shim::vd_restart_device_peak(index as i32, error) }
    })
}

/// Which of the settings below is in force.
static TF32: AtomicU8 = AtomicU8::new(START);
const START: u8 = 0;
const REFUSED: u8 = 1;
const ALLOWED: u8 = 2;

/// A number that identifies how operators round.
pub(crate) fn rounding() -> u8 {
    TF32.load(Ordering::Relaxed)
}

/// Whether f32 matrix products and convolutions on CUDA may round their operands to TF32 (11 bits);
/// libtorch starts with yes for convolutions and no for matrix products.
///
/// # Errors
/// Any error of libtorch.
pub fn allow_tf32(allow: bool) -> Result<()> {
    TF32.store(if allow { ALLOWED } else { REFUSED }, Ordering::Relaxed);
    shim::call(|error| {
        // SAFETY: takes a number, writes the error.
        unsafe { shim::vd_allow_tf32(allow.into(), error) }
    })
}

/// Whether cuDNN is limited to deterministic convolution algorithms; off when libtorch starts.
///
/// # Errors
/// Any error of libtorch.
pub fn deterministic_convolutions(only: bool) -> Result<()> {
    shim::call(|error| {
        // SAFETY: takes a number, writes the error.
        unsafe { shim::vd_deterministic_convolutions(only.into(), error) }
    })
}

/// Whether cuDNN tries all of its convolution algorithms when it first meets a shape and keeps the
/// fastest; libtorch starts with the one that cuDNN's heuristic expects to be fast.
///
/// # Errors
/// Any error of libtorch.
pub fn search_convolutions(search: bool) -> Result<()> {
    shim::call(|error| {
        // SAFETY: takes a number, writes the error.
        unsafe { shim::vd_search_convolutions(search.into(), error) }
    })
}

/// Restores libtorch's default: TF32 in convolutions, not in matrix products.
///
/// # Errors
/// Any error of libtorch.
pub fn restart_tf32() -> Result<()> {
    TF32.store(START, Ordering::Relaxed);
    shim::call(|error| {
        // SAFETY: writes the error.
        unsafe { shim::vd_restart_tf32(error) }
    })
}

/// Waits until a device has done what it was given; the CPU has already. A recording that another
/// thread makes meanwhile is waited for, since it would be ruined: not to be called within a backward.
///
/// # Errors
/// Any error of libtorch, including that of a kernel launched earlier.
pub fn synchronize(device: Device) -> Result<()> {
    let Device::Cuda(index) = device else { return Ok(()) };
    let _alone = Alone::enter();
    shim::call(|error| {
        // SAFETY: takes a number, writes the error.
        unsafe { shim::vd_synchronize(index as i32, error) }
    })
}

/// Whether a message of libtorch, or of CUDA's driver, says that memory ran out.
pub fn says_out_of_memory(message: &str) -> bool {
    OUT_OF_MEMORY.iter().any(|words| message.contains(words))
}

/// Runs `f`, and returns the message of a panic as an error, without libtorch's C++ stack: tch's plain
/// operators panic where libtorch refuses, for instance because memory ran out
/// ([`says_out_of_memory`]).
///
/// # Errors
/// The panic's message.
pub fn catch_panic<R>(f: impl FnOnce() -> R) -> std::result::Result<R, String> {
    // What `f` has left half done is its caller's to deal with, as after an error.
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| said_by(&*panic))
}

/// The message of a panic. Of an error that tch quotes: the line that says that memory ran out, else the
/// first one.
pub(crate) fn said_by(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
    let quoted = text.split_once("Torch(\"").map_or(text, |(_, quoted)| quoted);
    let message = quoted.split("Exception raised from").next().unwrap_or(quoted);
    let mut lines = message.split("\\n").filter(|line| !line.trim().is_empty());
    let line = lines.clone().find(|line| says_out_of_memory(line)).or_else(|| lines.next());
    line.unwrap_or(text).trim_end_matches("\")").trim().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tch::{Kind, Tensor};

    #[test]
    fn memory_that_runs_out_is_known_by_libtorchs_own_words() {
        // 2^60 bytes: no machine has them, and nothing is touched.
        let size = [1i64 << 58];
        let refused = Tensor::f_empty(size, (Kind::Float, Device::Cpu)).unwrap_err();
        assert!(says_out_of_memory(&refused.to_string()), "{refused}");
        let caught = catch_panic(|| Tensor::empty(size, (Kind::Float, Device::Cpu)));
        let message = caught.unwrap_err();
        assert!(says_out_of_memory(&message), "{message}");
        assert!(!message.contains('\n') && !message.contains("frame #"), "{message}");
        let cuda = "called `Result::unwrap()` on an `Err` value: Torch(\"CUDA out of memory. Tried \
                    to allocate 2.00 GiB.\\nException raised from malloc\")";
        let message = catch_panic(|| panic!("{cuda}")).unwrap_err();
        assert_eq!(message, "CUDA out of memory. Tried to allocate 2.00 GiB.");
        assert!(says_out_of_memory("kernel temporal_forward: CUDA_ERROR_OUT_OF_MEMORY"));
    }

    #[test]
    fn another_panic_is_an_error_too_and_a_result_comes_through() {
        assert_eq!(catch_panic(|| 7), Ok(7));
        let message = catch_panic(|| panic!("index 3")).unwrap_err();
        assert_eq!(message, "index 3");
        assert!(!says_out_of_memory(&message));
    }

    #[test]
    fn the_cpu_has_no_figures_of_a_device_and_a_device_that_is_not_there_is_an_error() {
        assert_eq!(device_memory(Device::Cpu).unwrap(), None);
        restart_device_peak(Device::Cpu).unwrap();
        allow_tf32(true).unwrap();
        restart_tf32().unwrap();
        synchronize(Device::Cpu).unwrap();
        assert!(device_memory(Device::Cuda(4096)).is_err());
    }
}
