//! One-time initialisation before the first use of libtorch.

use std::ffi::{CStr, CString};
use std::fs;
use std::path::PathBuf;
use std::sync::{Once, OnceLock};

use crate::{Error, Result};

/// The libtorch that tch 0.24 binds.
const VERSION: &str = "2.11.0";

/// The result of looking for CUDA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CudaStatus {
    /// CUDA can be used.
    Ready {
        /// The number of devices.
        devices: usize,
    },
    /// CUDA cannot be used.
    Absent {
        /// The reason, in words.
        why: String,
    },
}

static STATUS: OnceLock<CudaStatus> = OnceLock::new();

/// Tunes the allocator and loads libtorch's CUDA library if a driver is present.
///
/// Idempotent and cheap after the first call. `VD_CUDA` = `auto` (the default) | `off` | `require`;
/// an explicit device `cpu` needs no CUDA and takes precedence.
///
/// # Errors
/// `VD_CUDA=require` without a usable CUDA; an unknown `VD_CUDA`.
pub fn init() -> Result<()> {
    cuda_status().map(|_| ())
}

/// The CUDA status that [`init`] found.
///
/// # Errors
/// As [`init`].
pub fn cuda_status() -> Result<&'static CudaStatus> {
    let mode = std::env::var("VD_CUDA").unwrap_or_else(|_| "auto".to_owned());
    if !matches!(mode.as_str(), "auto" | "off" | "require") {
        return Err(Error::BadCudaMode(mode));
    }
    let found = STATUS.get_or_init(|| {
        tune_allocator();
        if mode == "off" {
            CudaStatus::Absent { why: "VD_CUDA=off".to_owned() }
        } else {
            look_for_cuda()
        }
    });
    match found {
        CudaStatus::Absent { why } if mode == "require" => Err(Error::CudaRequired(why.clone())),
        status => Ok(status),
    }
}

/// The part of [`init`] that the CPU needs.
pub(crate) fn tune_allocator() {
    static TUNED: Once = Once::new();
    TUNED.call_once(keep_freed_pages);
}

/// Keeps freed memory in the process: by default glibc returns every large block to the kernel, and
/// zeroing fresh pages then costs more than the computation of many layers.
fn keep_freed_pages() {
    // SAFETY: mallopt only stores the numbers; the keys are glibc's own.
    unsafe {
        // Rather than raising the mmap threshold: before 2.35, glibc limits it to 32 MiB.
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
}

fn look_for_cuda() -> CudaStatus {
    if let Err(why) = open(c"libcuda.so.1") {
        return CudaStatus::Absent { why: format!("no NVIDIA driver ({why})") };
    }
    let Some(dir) = libtorch_dir() else {
        return CudaStatus::Absent {
            why: "libtorch_cpu.so is not loaded in this process".to_owned(),
        };
    };
    let file = dir.join("libtorch_cuda.so");
    if !file.exists() {
        return CudaStatus::Absent {
            why: "a driver was found, but this libtorch has no CUDA part; `cargo xtask setup --cuda` installs it".to_owned(),
        };
    }
    let Ok(name) = CString::new(file.as_os_str().as_encoded_bytes()) else {
        return CudaStatus::Absent { why: "libtorch's path holds a NUL byte".to_owned() };
    };
    if let Err(why) = open(&name) {
        return CudaStatus::Absent { why };
    }
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that may ask, after the library is in"
    )]
    let devices = if tch::Cuda::is_available() { tch::Cuda::device_count() } else { 0 };
    match usize::try_from(devices) {
        Ok(devices) if devices > 0 => CudaStatus::Ready { devices },
        _ => CudaStatus::Absent { why: "the driver reports no usable device".to_owned() },
    }
}

/// Loads a library for the life of the process.
pub(crate) fn open(name: &CStr) -> std::result::Result<(), String> {
    // SAFETY: `name` is NUL-terminated; the handle is kept open for good.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: after a failed dlopen, dlerror returns a string that lives until the next dl call.
    let why = unsafe { libc::dlerror() };
    if why.is_null() {
        return Err(format!("{} could not be loaded", name.to_string_lossy()));
    }
    // SAFETY: not null, and NUL-terminated by contract of dlerror.
    Err(unsafe { CStr::from_ptr(why) }.to_string_lossy().into_owned())
}

/// The folder of the `libtorch_cpu.so` that this process runs on.
pub fn libtorch_dir() -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so"))?;
    let path = PathBuf::from(&line[line.find('/')?..]);
    path.parent().map(|p| p.to_path_buf())
}

/// The version that the libtorch of this process reports: `2.11.0+cpu`.
///
/// Read from a file beside the library: `version.py` of a wheel, `build-version` of a zip. None if
/// neither exists.
pub fn loaded_version() -> Option<String> {
    let lib = libtorch_dir()?;
    let root = lib.parent()?;
    if let Ok(text) = fs::read_to_string(root.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let text = fs::read_to_string(root.join("version.py")).ok()?;
    let line = text.lines().find(|line| line.starts_with("__version__"))?;
    let value = line.split_once('=')?.1.trim();
    Some(value.trim_matches(['\'', '"']).to_owned())
}

/// The libtorch version that this build is bound to.
pub fn version() -> &'static str {
    VERSION
}

/// Sets the number of threads of libtorch's operators, at least 1.
pub fn set_threads(n: usize) {
    tch::set_num_threads(i32::try_from(n.max(1)).unwrap_or(i32::MAX));
}

/// The number of threads that libtorch's operators use.
pub fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn init_is_idempotent_and_finds_where_libtorch_is() {
        init().unwrap();
        init().unwrap();
        let _ = tch::Tensor::from_slice(&[1.0f32]);
        assert!(libtorch_dir().unwrap().join("libtorch_cpu.so").exists());
        let loaded = loaded_version().unwrap();
        assert_eq!(loaded.split('+').next(), Some(version()));
    }

    #[test]
    fn a_missing_library_is_named() {
        assert!(open(c"libnothing-of-this-name.so.7").unwrap_err().contains("libnothing"));
    }
}
