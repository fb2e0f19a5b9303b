//! Finds the videos below a folder.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::{BadFile, natural_order};
use crate::decode::{Media, extension, is_animation_name, is_array_name, is_still_name, moves};
use crate::{Error, Result};

/// How the still images of a folder are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stills {
    /// Together they are one video, a frame each.
    Frames,
    /// Each one is an image of its own.
    Images,
}

/// The result of a walk.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) media: Vec<Media>,
    pub(super) bad: Vec<BadFile>,
    pub(super) other: BTreeMap<String, usize>,
}

/// Walks `root` and all folders below it; the videos come in natural order of their paths. The file
/// `known` is not counted.
pub(super) fn walk(root: &Path, known: Option<&Path>, stills: Stills) -> Result<Found> {
    if root.is_file() {
        let detail = "this is a file; give the folder that contains it".to_owned();
        return Err(Error::NoClips { folder: root.to_path_buf(), detail });
    }
    let mut found = Found::default();
    let mut seen = HashSet::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(folder) = open.pop() {
        // a link may lead back up, or two links to the same place
        let real = folder.canonicalize().map_err(|e| Error::read(&folder, e));
        let listed = real.and_then(|real| {
            let new = seen.insert(real);
            if new { list(&folder, known, stills, &mut found) } else { Ok(Vec::new()) }
        });
        match listed {
            // the stack is popped from its end: reversed, the folders come in order, so that which
            // of two paths to one place is kept does not depend on the file system
            Ok(folders) => open.extend(folders.into_iter().rev()),
            Err(error) if folder == root => return Err(error),
            Err(error) => found.bad.push(bad(&folder, &error)),
        }
    }
    found.media.sort_by(|a, b| natural_order(a.path(), b.path()));
    Ok(found)
}

/// Sorts the files of one folder into `found` and returns the folders in it.
fn list(
    folder: &Path,
    known: Option<&Path>,
    stills: Stills,
    found: &mut Found,
) -> Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| Error::read(folder, e))? {
        let entry = entry.map_err(|e| Error::read(folder, e))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            names.push(entry.path());
        }
    }
    names.sort_by(|a, b| natural_order(a, b));
    let (mut folders, mut frames) = (Vec::new(), Vec::new());
    for path in names {
        let whole = is_animation_name(&path) || is_array_name(&path);
        let video = whole || is_still_name(&path);
        match path.metadata() {
            Ok(about) if about.is_dir() => folders.push(path),
            Ok(about) if !about.is_file() => {}
            Ok(_) if whole || (video && moves(&path)) => {
                found.media.push(Media::File(path));
            }
            Ok(_) if video => frames.push(path),
            Ok(_) if known == Some(path.as_path()) => {}
            Ok(_) => {
                let kind = extension(&path);
                if kind != "txt" {
                    let kind = if kind.is_empty() { "without an extension" } else { &kind };
                    *found.other.entry(kind.to_owned()).or_default() += 1;
                }
            }
            // a dangling link matters only if its name is that of a video
            Err(e) if video => found.bad.push(bad(&path, &Error::read(&path, e))),
            Err(_) => {}
        }
    }
    if stills == Stills::Images {
        found.media.extend(frames.into_iter().map(Media::File));
    } else if !frames.is_empty() {
        found.media.push(Media::Frames { folder: folder.to_path_buf(), files: frames });
    }
    Ok(folders)
}

fn bad(path: &Path, error: &Error) -> BadFile {
    BadFile { path: path.to_path_buf(), reason: error.to_string() }
}
