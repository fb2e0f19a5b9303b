//! `gpu-bundle`: everything needed on a machine with a GPU but without Rust or a network: programs,
//! their input files, the comparison with the peer, and a script that runs it all.

mod programs;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod stages;
mod wheels;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::downstream;
use crate::error::{Result, at, failed};
use crate::paths;
use crate::setup;
use crate::stage;

/// The maximum size: it is transferred with a working tree.
const MOST: u64 = 60_000_000;
/// Files that tests read, relative to the root of the workspace.
const FIXTURES: [&str; 5] = [
    "crates/vd-torch/src",
    "crates/vd-unet3d/tests/parity",
    "crates/vd-diffusion/tests/golden",
    "crates/vd-tensor-ops/tests/fixtures",
    "crates/vd-text-cond/tests/encoders/bert",
];
/// The scripts that run there, beside the programs.
const SCRIPTS: &str = "crates/xtask/gpu";
/// Not part of the archive.
const ENTRY: &str = "run.sh";
const ARCHIVE: &str = "payload.tar.xz";

pub(crate) fn run(out: &Path) -> Result<()> {
    let libtorch = setup::ensure()?;
    let tree = downstream::target_dir()?.join("gpu-bundle");
    if tree.exists() {
        fs::remove_dir_all(&tree).map_err(at("remove", &tree))?;
    }
    programs::collect(&libtorch, &tree.join("bin"))?;
    let root = paths::root()?;
    for folder in FIXTURES {
        copy(&root.join(folder), &tree.join(folder))?;
    }
    copy(&root.join(SCRIPTS), &tree.join("gpu"))?;
    stage::timed("fetch the peer's wheels", || wheels::fetch(&tree.join("wheels")))?;
    fs::create_dir_all(out).map_err(at("create", out))?;
    pack(&tree, &out.join(ARCHIVE))?;
    let entry = out.join(ENTRY);
    fs::copy(root.join(SCRIPTS).join(ENTRY), &entry).map_err(at("write", &entry))?;
    check_size(out)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(at("create", to))?;
    for entry in fs::read_dir(from).map_err(at("read", from))? {
        let entry = entry.map_err(at("read", from))?;
        let (path, name) = (entry.path(), entry.file_name());
        if name == "__pycache__" {
            continue;
        }
        let target = to.join(&name);
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target).map_err(at("copy", &path))?;
        }
    }
    Ok(())
}

/// Programs of one package share most of their code and are adjacent, so a long compression window
/// finds it.
fn pack(tree: &Path, archive: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--use-compress-program=xz -9 -T0"]);
    tar.arg("-cf").arg(archive).arg("-C").arg(tree).arg(".");
    stage::run("compress (needs tar and xz)", &mut tar)
}

fn check_size(out: &Path) -> Result<()> {
    let size = |name: &str| -> Result<u64> {
        let path = out.join(name);
        Ok(fs::metadata(&path).map_err(at("read", &path))?.len())
    };
    let total = size(ARCHIVE)? + size(ENTRY)?;
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    if total > MOST {
        return failed(format!(
            "{} has {:.1} MB, more than {:.0}: remove programs (crates/xtask/src/bundle/programs.rs)",
            out.display(),
            megabytes(total),
            megabytes(MOST),
        ));
    }
    let shown: PathBuf = out.join(ENTRY);
    eprintln!(
        "xtask: {:.1} MB; on the GPU machine run: {} --out DIR",
        megabytes(total),
        shown.display()
    );
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn what_tests_read_is_there() {
        let root = paths::root().unwrap();
        for folder in FIXTURES {
            assert!(root.join(folder).is_dir(), "{folder}");
        }
        for script in [ENTRY, "bundle.py", "child.py", "package.py", "peer.py"] {
            assert!(root.join(SCRIPTS).join(script).is_file(), "{script}");
        }
    }

    #[test]
    fn a_bundle_that_is_too_large_is_refused() {
        let dir = std::env::temp_dir().join(format!("xtask-bundle-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(ENTRY), "").unwrap();
        let file = fs::File::create(dir.join(ARCHIVE)).unwrap();
        file.set_len(MOST).unwrap();
        assert_eq!(check_size(&dir), Ok(()));
        file.set_len(MOST + 1).unwrap();
        assert!(check_size(&dir).is_err());
        fs::remove_dir_all(dir).unwrap();
    }
}
