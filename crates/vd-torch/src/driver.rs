//! What NVIDIA's driver reports about itself and its devices.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::fs;
use std::path::Path;

use crate::cuda::Library;

/// The attribute numbers that CUDA's driver API gives to the two parts of a compute capability.
const CAPABILITY: [c_int; 2] = [75, 76];

/// NVIDIA's driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// Its release, if the kernel module reports it.
    pub release: Option<String>,
    /// The newest CUDA that it supports, `13.0`.
    pub cuda: String,
    /// Its devices, in its own order.
    pub devices: Vec<GpuInfo>,
}

/// A device of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuInfo {
    /// Its name.
    pub name: String,
    /// Bytes of memory.
    pub memory: u64,
    /// Its compute capability, `9.0`.
    pub capability: String,
}

/// Queries the driver directly, without libtorch.
///
/// # Errors
/// Why there is none, or what it refused, in words.
pub fn driver() -> std::result::Result<Driver, String> {
    let library = Library::open(Path::new("libcuda.so.1"))
        .map_err(|why| format!("no NVIDIA driver ({why})"))?;
    let api = Api::of(library).map_err(|why| format!("the NVIDIA driver: {why}"))?;
    // SAFETY: `init` takes flags, which must be 0; it may be called again.
    checked("cuInit", unsafe { (api.init)(0) })?;
    let (mut version, mut count) = (0, 0);
    // SAFETY: writes one number.
    checked("cuDriverGetVersion", unsafe { (api.version)(&raw mut version) })?;
    // SAFETY: writes one number.
    checked("cuDeviceGetCount", unsafe { (api.count)(&raw mut count) })?;
    let devices = (0..count).map(|index| api.gpu(index)).collect::<Result<_, _>>()?;
    let cuda = format!("{}.{}", version / 1000, version % 1000 / 10);
    let text = fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    Ok(Driver { release: release_of(&text), cuda, devices })
}

/// `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build`
fn release_of(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("NVRM version"))?;
    let is_release =
        |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    line.split_whitespace().find(is_release).map(str::to_owned)
}

/// The few driver functions that are needed.
struct Api {
    init: unsafe extern "C" fn(c_uint) -> c_int,
    version: unsafe extern "C" fn(*mut c_int) -> c_int,
    count: unsafe extern "C" fn(*mut c_int) -> c_int,
    device: unsafe extern "C" fn(*mut c_int, c_int) -> c_int,
    name: unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int,
    memory: unsafe extern "C" fn(*mut usize, c_int) -> c_int,
    attribute: unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int,
}

impl Api {
    fn of(library: Library) -> std::result::Result<Self, String> {
        // SAFETY: each function has the type that the driver's header (cuda.h) declares for it.
        unsafe {
            Ok(Api {
                init: library.function(c"cuInit")?,
                version: library.function(c"cuDriverGetVersion")?,
                count: library.function(c"cuDeviceGetCount")?,
                device: library.function(c"cuDeviceGet")?,
                name: library.function(c"cuDeviceGetName")?,
                memory: library.function(c"cuDeviceTotalMem_v2")?,
                attribute: library.function(c"cuDeviceGetAttribute")?,
            })
        }
    }

    fn gpu(&self, index: c_int) -> std::result::Result<GpuInfo, String> {
        let (mut device, mut memory, mut parts) = (0, 0, [0; 2]);
        let mut name = [0u8; 256];
        // SAFETY: writes one number.
        checked("cuDeviceGet", unsafe { (self.device)(&raw mut device, index) })?;
        // SAFETY: writes at most 256 bytes, the last of them NUL.
        let named = unsafe { (self.name)(name.as_mut_ptr().cast(), 256, device) };
        checked("cuDeviceGetName", named)?;
        // SAFETY: writes one number.
        checked("cuDeviceTotalMem", unsafe { (self.memory)(&raw mut memory, device) })?;
        for (part, attribute) in parts.iter_mut().zip(CAPABILITY) {
            // SAFETY: writes one number.
            let got = unsafe { (self.attribute)(&raw mut *part, attribute, device) };
            checked("cuDeviceGetAttribute", got)?;
        }
        let name = CStr::from_bytes_until_nul(&name).unwrap_or_default();
        Ok(GpuInfo {
            name: name.to_string_lossy().into_owned(),
            memory: memory as u64,
            capability: format!("{}.{}", parts[0], parts[1]),
        })
    }
}

fn checked(what: &str, code: c_int) -> std::result::Result<(), String> {
    if code == 0 { Ok(()) } else { Err(format!("the NVIDIA driver refuses {what} (error {code})")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_found_in_either_form_of_the_line() {
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22\nGCC\n";
        let opened =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release\n";
        assert_eq!(release_of(closed).as_deref(), Some("550.54.14"));
        assert_eq!(release_of(opened).as_deref(), Some("580.95.05"));
        assert_eq!(release_of(""), None);
    }

    #[test]
    fn what_is_not_there_is_said_and_what_is_there_has_a_name() {
        match driver() {
            Ok(driver) => assert!(driver.devices.iter().all(|gpu| !gpu.name.is_empty())),
            Err(why) => assert!(why.contains("NVIDIA driver"), "{why}"),
        }
    }
}
