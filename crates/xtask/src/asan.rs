//! `asan`: runs the tests of the kernels under AddressSanitizer.
//!
//! The sanitizer's runtime comes with the stable compiler, but its flag is unstable:
//! RUSTC_BOOTSTRAP enables it. The sanitizer watches memory accesses of this project's code.
//! libtorch is not instrumented, but its blocks come from the sanitizer's allocator, so that a
//! kernel's access outside of one is detected.

use std::fs;
use std::path::{Path, PathBuf};

use crate::downstream;
use crate::error::{Result, at, failed};
use crate::paths;
use crate::setup;
use crate::stage;

const TESTS: &str = "crates/vd-tensor-ops/tests";
/// With an explicit target the flags do not apply to build scripts and macros, which the compiler
/// loads.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// libtorch keeps much memory until its process ends, and returns containers that are not
/// instrumented.
const OPTIONS: &str = "detect_leaks=0:detect_container_overflow=0";

pub(crate) fn run() -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        return failed(format!("the kernel tests run under AddressSanitizer only on {TARGET}"));
    }
    let libtorch = setup::ensure()?;
    let target = downstream::target_dir()?.join("asan");
    let mut cargo = stage::cargo(&libtorch)?;
    cargo.args(["test", "--target", TARGET, "-p", "vd-tensor-ops"]);
    for name in tests(&paths::root()?.join(TESTS))? {
        cargo.args(["--test", &name]);
    }
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
    cargo.env("CARGO_TARGET_DIR", &target).env("CARGO_INCREMENTAL", "0");
    cargo.env("ASAN_OPTIONS", OPTIONS);
    stage::run("kernel tests under AddressSanitizer", &mut cargo)?;
    // More than a gigabyte that nothing else can use.
    fs::remove_dir_all(&target).map_err(at("remove", &target))
}

/// The names of the kernels' tests, sorted.
fn tests(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(at("read", folder))?;
    let files = entries.flatten().map(|entry| entry.path());
    let mut names: Vec<String> = files.filter_map(name).collect();
    names.sort();
    if names.is_empty() {
        return failed(format!("{} has no kernel tests", folder.display()));
    }
    Ok(names)
}

fn name(file: PathBuf) -> Option<String> {
    let name = file.file_name()?.to_str()?.strip_suffix(".rs")?;
    name.starts_with("kernels_").then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_of_the_kernels_are_found() {
        let found = paths::root().and_then(|root| tests(&root.join(TESTS)));
        assert!(found.is_ok_and(|names| names.iter().any(|name| name == "kernels_guarded")));
        assert!(tests(Path::new("/nowhere")).is_err());
    }
}
