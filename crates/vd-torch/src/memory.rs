//! What this process has taken of the machine's memory.

use std::fs;

/// Bytes of memory that the process had resident at most so far; `None` where the system does not
/// tell (it is read from Linux's `/proc`).
pub fn peak_resident() -> Option<u64> {
    kibibytes("/proc/self/status", "VmHWM:")
}

/// Bytes of memory that new processes can take without swapping; `None` where the system does not
/// tell.
pub fn available_memory() -> Option<u64> {
    kibibytes("/proc/meminfo", "MemAvailable:")
}

/// The number of kB behind a key, as bytes.
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
}
