//! Whether one path lies inside another.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use crate::{Error, Result};

/// Whether `path`, which need not exist yet, is `folder` or lies in it, with links resolved.
///
/// # Errors
/// When `folder` or the existing part of `path` cannot be resolved.
pub fn folder_contains(folder: &Path, path: &Path) -> Result<bool> {
    let folder = folder.canonicalize().map_err(|e| Error::read(folder, e))?;
    Ok(resolve(path)?.starts_with(folder))
}

/// Resolves the existing part of a path and appends the rest.
fn resolve(path: &Path) -> Result<PathBuf> {
    let mut existing = std::path::absolute(path).map_err(|e| Error::read(path, e))?;
    let mut missing: Vec<OsString> = Vec::new();
    let mut resolved = loop {
        match existing.canonicalize() {
            Ok(resolved) => break resolved,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                let Some(last) = existing.components().next_back() else {
                    return Err(Error::read(path, e));
                };
                missing.push(last.as_os_str().to_os_string());
                if !existing.pop() {
                    return Err(Error::read(path, e));
                }
            }
            Err(e) => return Err(Error::read(path, e)),
        }
    };
    for part in missing.iter().rev() {
        // below a folder that does not exist there are no links, so ".." only removes one component
        match Path::new(part).components().next() {
            Some(Component::ParentDir) => {
                resolved.pop();
            }
            Some(Component::CurDir) | None => {}
            Some(_) => resolved.push(part),
        }
    }
    Ok(resolved)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_path_inside_is_seen_through_links_dots_and_absence() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir_all(data.join("deep")).unwrap();
        fs::create_dir(dir.path().join("data-2")).unwrap();
        std::os::unix::fs::symlink(&data, dir.path().join("link")).unwrap();
        let inside = |path: &str| folder_contains(&data, &dir.path().join(path)).unwrap();
        assert!(inside("data"));
        assert!(inside("data/"));
        assert!(inside("data/deep"));
        assert!(inside("data/not/there/yet"));
        assert!(inside("link/out"));
        assert!(inside("elsewhere/../data/out"));
        assert!(inside("data-2/../link/deep/../out"));
        assert!(!inside("data-2"));
        assert!(!inside("data-2/out"));
        assert!(!inside("data/../out"));
        assert!(!inside("data/new/../../out"));
        assert!(!inside(""));
        assert!(folder_contains(&dir.path().join("none"), &data).is_err());
    }

    #[test]
    fn a_relative_path_is_taken_from_the_current_folder() {
        let here = std::env::current_dir().unwrap();
        assert!(folder_contains(&here, Path::new("runs/first")).unwrap());
        assert!(folder_contains(Path::new("."), &here.join("src/none")).unwrap());
    }
}
