//! Paths of the workspace, the cache and programs.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, failed};

/// The project's own folder in the user's cache.
const PROJECT: &str = "video-diffusion";

/// The root of the workspace.
pub(crate) fn root() -> Result<PathBuf> {
    // cargo sets the variable at each run, so a copied clone with its target/ works.
    let own = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = own.parent().and_then(Path::parent);
    let root = root.filter(|r| r.join("crates/xtask/Cargo.toml").is_file());
    root.map(Path::to_path_buf).ok_or_else(|| {
        let own = own.display();
        Error::Failed(format!("{own} is not in the workspace: run it as `cargo xtask`"))
    })
}

/// The link to libtorch that the builds use.
pub(crate) fn link() -> Result<PathBuf> {
    Ok(root()?.join(".libtorch"))
}

/// The project's folder in the user's cache.
pub(crate) fn cache() -> Result<PathBuf> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    match (absolute("XDG_CACHE_HOME"), absolute("HOME")) {
        (Some(cache), _) => Ok(cache.join(PROJECT)),
        (None, Some(home)) => Ok(home.join(".cache").join(PROJECT)),
        (None, None) => failed(
            "neither XDG_CACHE_HOME nor HOME is an absolute path to install in: \
             set one of them, or give `--dir DIR`",
        ),
    }
}

/// The first `program` on the PATH, or `program` itself if it is a path.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|p| is_executable(p));
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(program)).find(|p| is_executable(p))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}
