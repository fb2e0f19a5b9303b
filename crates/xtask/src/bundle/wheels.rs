//! The peer's wheels, downloaded when the bundle is made: they contain only Python.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::error::{Result, at, failed};
use crate::pip;
use crate::python;

/// The peer and its imports besides torch, torchvision and Pillow, which a Python with torch for
/// images has.
const WHEELS: [&str; 5] = [
    "video-diffusion-pytorch==0.7.0",
    "einops==0.8.2",
    "einops-exts==0.0.4",
    "rotary-embedding-torch==0.9.1",
    "tqdm==4.67.1",
];
/// What to do without a network.
const REMEDY: &str = "make the bundle where there is one";

pub(super) fn fetch(folder: &Path) -> Result<()> {
    let scratch = folder.with_extension("tmp");
    fs::create_dir_all(&scratch).map_err(at("create", &scratch))?;
    let python = python::with_pip(&scratch.join("venv"))?;
    let mut download = Command::new(python);
    download.args(["-m", "pip", "download", "--disable-pip-version-check", "--no-input"]);
    download.args(["--progress-bar", "off", "--no-deps", "--only-binary=:all:", "--dest"]);
    download.arg(folder).args(WHEELS);
    let (status, output) = pip::watch(&mut download)?;
    if !status.success() {
        let known = pip::surroundings(&output, "name another folder", REMEDY);
        return failed(known.unwrap_or_else(|| pip::key_line(&output)));
    }
    fs::remove_dir_all(&scratch).map_err(at("remove", &scratch))?;
    for entry in fs::read_dir(folder).map_err(at("read", folder))? {
        let name = entry.map_err(at("read", folder))?.file_name().to_string_lossy().into_owned();
        if !name.ends_with("-none-any.whl") {
            return failed(format!("{name} is not a wheel of Python alone: it may not run there"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_is_the_one_of_the_other_comparison() {
        assert!(
            WHEELS.contains(&format!("video-diffusion-pytorch=={}", crate::peer::PEER).as_str())
        );
    }
}
