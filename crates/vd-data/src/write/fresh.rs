//! Folders that are written atomically.

use std::fs;
use std::path::Path;

use crate::{Error, Result};

/// Fills a new folder and moves it to `path`, where there may be a folder of frames alone, which is
/// replaced, or nothing.
pub(super) fn folder(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let failed = |e| Error::write(path, e);
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let hidden = || tempfile::Builder::new().prefix(".vd-").suffix(".tmp").tempdir_in(parent);
    let there = path.symlink_metadata().is_ok();
    if there && !holds_frames_alone(path).map_err(failed)? {
        let why = "it already exists and holds files other than frames; give another name";
        return Err(failed(std::io::Error::other(why)));
    }
    let new = hidden().map_err(failed)?;
    fill(new.path())?;
    // temporary folders are private by default; this one gets the user's permissions
    open_to_all(new.path()).map_err(failed)?;
    let old = hidden().map_err(failed)?;
    if there {
        fs::rename(path, old.path()).map_err(failed)?;
    }
    fs::rename(new.path(), path).map_err(failed)?;
    #[cfg(unix)]
    fs::File::open(parent).and_then(|folder| folder.sync_all()).map_err(failed)?;
    // the temporary folder no longer exists under its old name, so it must not be deleted
    let _ = new.keep();
    Ok(())
}

fn holds_frames_alone(path: &Path) -> std::io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let number = name.strip_prefix("frame-").and_then(|name| name.strip_suffix(".png"));
        if !number.is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit())) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(unix)]
fn open_to_all(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn open_to_all(_: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Clip, ClipFormat, decode};

    #[test]
    fn frames_replace_frames_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clip");
        for f in [5, 3] {
            let clip = Clip::new(vec![f as u8; f * 4], [f, 2, 2, 1], crate::UNSTATED_FPS).unwrap();
            ClipFormat::Png.write(&path, &clip).unwrap();
            assert_eq!(decode(&path, 1).unwrap(), clip);
            // neither the old content nor a temporary folder is left
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
        fs::write(path.join("frame-x.png"), "another's").unwrap();
        let clip = Clip::new(vec![0; 4], [1, 2, 2, 1], 8.0).unwrap();
        let error = ClipFormat::Png.write(&path, &clip).unwrap_err().to_string();
        assert!(error.contains("files other than frames"), "{error}");
        assert_eq!(fs::read_dir(&path).unwrap().count(), 4);
    }
}
