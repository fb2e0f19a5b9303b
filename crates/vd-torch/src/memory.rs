//! Memory and CPU time used by this process.

use std::time::Duration;
use std::{fs, io};

/// Peak resident memory of the process in bytes; `None` if the system does not report it (it is
/// read from Linux's `/proc`).
pub fn peak_resident() -> Option<u64> {
    kibibytes("/proc/self/status", "VmHWM:")
}

/// Bytes of memory that new processes can take without swapping; `None` if the system does not
/// report it.
pub fn available_memory() -> Option<u64> {
    kibibytes("/proc/meminfo", "MemAvailable:")
}

/// CPU time of the process so far: user and system time of all its threads.
///
/// # Errors
/// Any error of the operating system.
pub fn cpu_time() -> io::Result<Duration> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: the call fills the `rusage` if it returns 0, and only then is it read.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        usage.assume_init()
    };
    let duration = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    Ok(duration(usage.ru_utime) + duration(usage.ru_stime))
}

/// The number of kB after a key, in bytes.
fn kibibytes(path: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_that_was_used_counts_in_the_peak() {
        let before = peak_resident().unwrap();
        let pages = vec![7u8; before as usize + (64 << 20)];
        assert!(std::hint::black_box(&pages).iter().all(|byte| *byte == 7));
        assert!(peak_resident().unwrap() >= pages.len() as u64);
        assert!(available_memory().unwrap() > 0);
    }

    #[test]
    fn work_counts_as_cpu_time() {
        let before = cpu_time().unwrap();
        let mut x = 1u64;
        // far more than the clock's step, whatever else the machine does
        while cpu_time().unwrap() == before {
            x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005));
        }
        assert!(cpu_time().unwrap() > before);
    }
}
