//! The Python environment with video-diffusion-pytorch.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::disk;
use crate::downstream;
use crate::error::{Result, at, failed};
use crate::paths;
use crate::pip;
use crate::python;

/// The version that the shapes, the weights and docs/benchmarks refer to.
pub(crate) const PEER: &str = "0.7.0";
/// torch is the one whose libtorch this project uses; both versions change together.
const PACKAGES: [&str; 4] =
    ["torch==2.11.0", "torchvision==0.26.0", "video-diffusion-pytorch==0.7.0", "safetensors"];
/// Wheels and their unpacked content, including CUDA libraries, since the index has no torch
/// without them.
const SPACE: u64 = 9_000_000_000;
/// The download size.
const DOWNLOAD: u64 = 2_500_000_000;
/// The size once installed.
const INSTALLED: u64 = 5_000_000_000;
/// How to avoid an installation.
const ELSEWHERE: &str =
    "give a Python that has the packages with `--python FILE` or VD_PEER_PYTHON";
/// Names an interpreter that has all of them.
const VARIABLE: &str = "VD_PEER_PYTHON";

/// The given interpreter, else that of an environment under target/, created if necessary.
pub(super) fn python(named: Option<&Path>) -> Result<PathBuf> {
    let set = env::var_os(VARIABLE).filter(|set| !set.is_empty()).map(PathBuf::from);
    let Some(named) = named.map(Path::to_path_buf).or(set) else {
        return made(&downstream::target_dir()?.join("peer"));
    };
    // Absolute, since it is started from another folder; a link in a virtual environment must not
    // be resolved.
    let named = std::path::absolute(&named).map_err(at("find", &named))?;
    match paths::which(&named.to_string_lossy()) {
        Some(python) => Ok(python),
        None => failed(format!("{} is not a Python that can be started", named.display())),
    }
}

fn made(dir: &Path) -> Result<PathBuf> {
    // Written last: without it the environment is incomplete.
    let (marker, wanted) = (dir.join("complete"), PACKAGES.join("\n"));
    let inside = dir.join("bin/python");
    if fs::read_to_string(&marker).is_ok_and(|found| found == wanted) {
        return Ok(inside);
    }
    if dir.exists() {
        fs::remove_dir_all(dir).map_err(at("replace", dir))?;
    }
    let scratch = dir.join("tmp");
    fs::create_dir_all(&scratch).map_err(at("create", &scratch))?;
    disk::check_free(dir, SPACE, ELSEWHERE)?;
    let python = python::environment(dir)?;
    eprintln!(
        "xtask: installing {} in {}, once: a download of about {}, {} of disk; pip unpacks for \
         some minutes after the last download. Without a network, interrupt this, and {ELSEWHERE}.",
        PACKAGES.join(" "),
        dir.display(),
        disk::gigabytes(DOWNLOAD),
        disk::gigabytes(INSTALLED),
    );
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input"]);
    // Few of their files are ever imported, and those are compiled then.
    install.args(["--progress-bar", "off", "--no-compile"]).args(PACKAGES);
    // The user's pip may be configured to install elsewhere; /tmp may be small.
    for name in ["PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"] {
        install.env_remove(name);
    }
    install.env("PIP_USER", "0").env("PYTHONUNBUFFERED", "1").env("TMPDIR", &scratch);
    let (status, output) = pip::watch(&mut install)?;
    if !status.success() {
        let log = dir.join("pip.log");
        fs::write(&log, &output).map_err(at("write", &log))?;
        return failed(explain(&output, &log));
    }
    fs::remove_dir_all(&scratch).map_err(at("remove", &scratch))?;
    fs::write(&marker, wanted).map_err(at("write", &marker))?;
    eprintln!("xtask: installed; the next run starts at once");
    Ok(inside)
}

/// A one-line summary of pip's output.
fn explain(output: &str, log: &Path) -> String {
    let log = log.display();
    if let Some(known) = pip::surroundings(output, ELSEWHERE, ELSEWHERE) {
        return known;
    }
    if let Some((_, after)) = output.split_once("No matching distribution found for ") {
        let wheel = after.split_whitespace().next().unwrap_or_default();
        return format!(
            "the package index has no {wheel} for this Python, or cannot be reached (pip's whole \
             output: {log}): check the network, set PYTHON to a Python 3.10 to 3.13, or {ELSEWHERE}"
        );
    }
    let line = pip::key_line(output);
    format!("{line} (pip's whole output: {log}); or {ELSEWHERE}: {}", PACKAGES.join(" "))
}

/// Refuses a machine without the C++ compiler that torch.compile needs.
pub(super) fn compiler() -> Result<()> {
    let named = env::var("CXX").ok().filter(|name| !name.is_empty());
    let name = named.clone().unwrap_or_else(|| "g++".to_owned());
    match paths::which(&name) {
        Some(_) => Ok(()),
        None => failed(format!(
            "`--compile` needs a C++ compiler, but there is no {name}{}: install one (Debian: apt \
             install g++), name one with CXX, or leave `--compile` out",
            if named.is_some() { ", which CXX names" } else { " on the PATH" },
        )),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_packages_are_the_versions_that_are_asked_for() {
        assert!(PACKAGES.contains(&format!("torch=={}", crate::find::VERSION).as_str()));
        assert!(PACKAGES.contains(&format!("video-diffusion-pytorch=={PEER}").as_str()));
    }

    #[test]
    fn a_failed_installation_says_what_to_do_in_one_line() {
        let log = Path::new("/x/pip.log");
        let line = explain("WARNING: Retrying: Temporary failure in name resolution\n", log);
        assert!(line.starts_with("pip cannot reach the package index (Temporary"), "{line}");
        let other = explain("ERROR: the second\n", log);
        assert!(other.contains("the second") && other.contains("/x/pip.log"), "{other}");
        let none = explain("ERROR: No matching distribution found for torch==2.11.0\n", log);
        assert!(none.contains("has no torch==2.11.0 for this Python"), "{none}");
        for line in [line, other, none] {
            assert!(line.contains("--python FILE") && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn a_complete_environment_is_used_again_and_an_unknown_python_is_refused() {
        let dir = env::temp_dir().join(format!("xtask-peer-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("complete"), PACKAGES.join("\n")).unwrap();
        assert_eq!(made(&dir), Ok(dir.join("bin/python")));
        assert!(python(Some(&dir.join("bin/python"))).is_err());
        fs::remove_dir_all(dir).unwrap();
    }
}
