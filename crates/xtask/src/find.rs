//! Finds a libtorch on this machine, and explains why others are not usable.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Result;
use crate::paths;

/// The only version that the bindings support.
pub(crate) const VERSION: &str = "2.11.0";

/// What a libtorch must support besides the CPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) cuda: bool,
    pub(crate) nvrtc: bool,
}

/// The result of inspecting a location: the full version, or why it is not usable.
pub(crate) type Verdict = std::result::Result<String, String>;

/// LIBTORCH as the user set it; cargo itself sets it to the link for every process that it starts.
pub(crate) fn users_libtorch() -> Result<Option<OsString>> {
    let link = paths::link()?;
    Ok(env::var_os("LIBTORCH").filter(|set| Path::new(set) != link))
}

/// The `torch` package of the active virtual environment: `None` if none is active.
pub(crate) fn in_virtual_env() -> Option<std::result::Result<PathBuf, String>> {
    let venv = PathBuf::from(env::var_os("VIRTUAL_ENV").filter(|v| !v.is_empty())?);
    let pythons = fs::read_dir(venv.join("lib")).into_iter().flatten().flatten();
    let mut packages = pythons.map(|python| python.path().join("site-packages/torch"));
    let none = || format!("no torch in {}/lib/python3*/site-packages", venv.display());
    Some(packages.find(|torch| torch.is_dir()).ok_or_else(none))
}

/// Inspects one location.
pub(crate) fn inspect(torch: &Path, needs: Needs) -> Verdict {
    if !torch.is_dir() {
        return Err(match fs::read_link(torch) {
            Ok(target) => format!("it links to {}, which does not exist", target.display()),
            Err(_) => "it is not a folder".to_owned(),
        });
    }
    for file in ["lib/libtorch_cpu.so", "lib/libtorch.so", "lib/libc10.so", "include/ATen/ATen.h"] {
        if !torch.join(file).is_file() {
            return Err(format!("it has no {file}"));
        }
    }
    let found = version(torch).ok_or("it has neither version.py nor build-version")?;
    if found.split('+').next() != Some(VERSION) {
        return Err(format!("it is torch {found}, but {VERSION} is needed"));
    }
    loads(&torch.join("lib/libtorch_cpu.so"))?;
    if needs.cuda {
        let library = torch.join("lib/libtorch_cuda.so");
        if !library.is_file() {
            return Err("it has no CUDA libraries (lib/libtorch_cuda.so)".to_owned());
        }
        loads(&library)?;
    }
    if needs.nvrtc {
        let real = torch.canonicalize().map_err(|e| e.to_string())?;
        let nvidia = real.with_file_name("nvidia/cu13");
        for file in ["lib/libnvrtc.so.13", "include/crt/host_defines.h"] {
            if !nvidia.join(file).is_file() {
                return Err(format!("it has no NVRTC ({})", nvidia.join(file).display()));
            }
        }
    }
    Ok(found)
}

/// `2.11.0+cu130`, from a file in libtorch's wheel or zip.
fn version(torch: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(torch.join("build-version")) {
        return Some(text.trim().to_owned());
    }
    let text = fs::read_to_string(torch.join("version.py")).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("__version__ = "))?;
    Some(line.trim().trim_matches(['\'', '"']).to_owned())
}

/// Whether the dynamic linker finds everything that a library needs; a machine without `ldd`
/// passes.
fn loads(library: &Path) -> std::result::Result<(), String> {
    let mut ldd = Command::new("ldd");
    // The builds must work without the variable, so it is checked without it.
    let output = ldd.arg(library).env("LC_ALL", "C").env_remove("LD_LIBRARY_PATH").output();
    let Ok(output) = output else { return Ok(()) };
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    match missing(&text) {
        Some(what) => Err(format!("its {} needs {what}, which is missing", name(library))),
        None if output.status.success() => Ok(()),
        None => Err(format!("its {} is damaged: {}", name(library), text.trim())),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The first item that `ldd` did not find: a library, or a version of the C library.
fn missing(ldd: &str) -> Option<&str> {
    let line = ldd.lines().find(|l| l.contains("not found"))?;
    match line.split_once("version `") {
        Some((_, version)) => version.split('\'').next(),
        None => line.split(" => ").next().map(str::trim),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    /// A folder with the files of a libtorch, all empty, and `version.py`.
    fn pretend(name: &str, version_py: &str) -> PathBuf {
        let dir = env::temp_dir().join(format!("xtask-find-{}-{name}", std::process::id()));
        for file in ["lib/libtorch_cpu.so", "lib/libtorch.so", "lib/libc10.so"] {
            fs::create_dir_all(dir.join("lib")).unwrap();
            fs::write(dir.join(file), "").unwrap();
        }
        fs::create_dir_all(dir.join("include/ATen")).unwrap();
        fs::write(dir.join("include/ATen/ATen.h"), "").unwrap();
        fs::write(dir.join("version.py"), version_py).unwrap();
        dir
    }

    #[test]
    fn another_version_is_named_beside_the_one_needed() {
        let dir = pretend("old", "debug = False\n__version__ = '2.5.1+cu124'\n");
        let why = inspect(&dir, Needs::default()).unwrap_err();
        assert_eq!(why, "it is torch 2.5.1+cu124, but 2.11.0 is needed");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_longer_version_that_begins_alike_is_another() {
        let dir = pretend("rc", "__version__ = '2.11.01'\n");
        assert!(inspect(&dir, Needs::default()).is_err());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_library_that_is_no_library_is_damaged() {
        let dir = pretend("empty", "__version__ = '2.11.0+cu130'\n");
        let why = inspect(&dir, Needs::default()).unwrap_err();
        assert!(why.contains("libtorch_cpu.so is damaged"), "{why}");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = pretend("bare", "__version__ = '2.11.0'\n");
        fs::remove_file(dir.join("include/ATen/ATen.h")).unwrap();
        let why = inspect(&dir, Needs::default()).unwrap_err();
        assert_eq!(why, "it has no include/ATen/ATen.h");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_ldd_misses_is_named() {
        let library = "\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\tlibcudart.so.13 => not found\n";
        assert_eq!(missing(library), Some("libcudart.so.13"));
        let glibc = "x.so: /lib/libm.so.6: version `GLIBC_2.28' not found (required by x.so)\n";
        assert_eq!(missing(glibc), Some("GLIBC_2.28"));
        assert_eq!(missing("\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n"), None);
    }
}
