//! Shards, open for reading.

use std::fmt::Debug;
use std::fs::File;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use vd_tensor_ops::torch::map_file;

use crate::{Error, Result};

/// A shard from which any number of threads can read any part at once.
///
/// It is memory-mapped. Before each access the length of the file is checked, and a file that has
/// become shorter is an error; a file that is truncated while a part is being copied ends the
/// process (docs/data.md).
#[derive(Debug)]
pub(super) struct ShardFile {
    path: PathBuf,
    /// `None` if it is opened and mapped for each access: a process may only hold so many files
    /// open.
    kept: Option<Kept>,
}

/// A file and its mapping.
#[derive(Debug)]
struct Kept {
    file: File,
    map: Box<dyn Mapping>,
}

trait Mapping: Deref<Target = [u8]> + Send + Sync + Debug {}

impl<T: Deref<Target = [u8]> + Send + Sync + Debug> Mapping for T {}

impl Kept {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::read(path, e))?;
        let map = Box::new(map_file(&file).map_err(|e| Error::read(path, e))?);
        Ok(Self { file, map })
    }

    /// The bytes of a part, unless the file no longer contains them.
    fn part(&self, path: &Path, part: Range<u64>) -> Result<&[u8]> {
        let now = self.file.metadata().map_err(|e| Error::read(path, e))?.len();
        let range = usize::try_from(part.start).ok().zip(usize::try_from(part.end).ok());
        let found = range.filter(|_| part.end <= now).and_then(|(a, b)| self.map.get(a..b));
        found.ok_or_else(|| {
            let expected = format!("bytes {} to {}", part.start, part.end);
            Error::damaged(path, expected, format!("a file that was truncated to {now} bytes"))
        })
    }
}

impl ShardFile {
    /// Opens a shard; refuses one shorter than `bytes`.
    pub(super) fn open(path: &Path, bytes: u64, keep: bool) -> Result<Self> {
        let refuse = |found: String| {
            let expected = format!("{bytes} bytes, as its index states");
            Err(Error::shards(path, None, expected, found))
        };
        let about = path.metadata().map_err(|e| Error::read(path, e))?;
        if !about.is_file() {
            return refuse("not a regular file".to_owned());
        }
        if about.len() < bytes {
            return refuse(format!("{} bytes", about.len()));
        }
        let kept = keep.then(|| Kept::open(path)).transpose()?;
        // the file may have been replaced since it was checked
        match kept.as_ref().map(|kept| kept.map.len() as u64) {
            Some(mapped) if mapped < bytes => refuse(format!("{mapped} bytes")),
            _ => Ok(Self { path: path.to_path_buf(), kept }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Passes the bytes of a part to `visit`.
    pub(super) fn with<T>(&self, part: Range<u64>, visit: impl FnOnce(&[u8]) -> T) -> Result<T> {
        match &self.kept {
            Some(kept) => kept.part(&self.path, part).map(visit),
            None => Kept::open(&self.path)?.part(&self.path, part).map(visit),
        }
    }
}
