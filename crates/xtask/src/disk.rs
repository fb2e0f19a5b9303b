//! Free disk space, according to `df`.

use std::path::Path;
use std::process::Command;

use crate::error::{Result, failed};

/// Refuses a file system with less than `needed` bytes, and names the remedy; accepts one that `df`
/// knows nothing about.
pub(crate) fn check_free(dir: &Path, needed: u64, remedy: &str) -> Result<()> {
    match free(dir) {
        Some(found) if found < needed => failed(format!(
            "too little disk space at {}: about {} are needed while installing, {} are free; \
             free some space, or {remedy}",
            dir.display(),
            gigabytes(needed),
            gigabytes(found),
        )),
        _ => Ok(()),
    }
}

/// Bytes in words.
pub(crate) fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

fn free(dir: &Path) -> Option<u64> {
    let mut df = Command::new("df");
    let output = df.arg("-Pk").arg(dir).env("LC_ALL", "C").output().ok()?;
    available(&String::from_utf8_lossy(&output.stdout))
}

/// The number before the column that ends in %: a device name and a mount point may contain blanks.
fn available(df: &str) -> Option<u64> {
    let columns: Vec<&str> = df.lines().nth(1)?.split_whitespace().collect();
    let percent = columns.iter().position(|c| c.ends_with('%'))?;
    let kib: u64 = columns.get(percent.checked_sub(1)?)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Filesystem     1024-blocks     Used Available Capacity Mounted on\n";

    #[test]
    fn the_available_column_is_found() {
        let line = "/dev/vda         264000000 18000000  77000000      19% /\n";
        assert_eq!(available(&format!("{HEAD}{line}")), Some(77_000_000 * 1024));
    }

    #[test]
    fn blanks_in_the_names_do_not_mislead() {
        let line = "//nas/my films   264000000 18000000  123      19% /mnt/my 5 films\n";
        assert_eq!(available(&format!("{HEAD}{line}")), Some(123 * 1024));
    }

    #[test]
    fn an_answer_in_another_form_is_no_answer() {
        for text in ["", HEAD, "df: /x: No such file or directory\n", "a\n19%\n"] {
            assert_eq!(available(text), None, "{text:?}");
        }
    }
}
