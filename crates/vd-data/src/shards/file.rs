//! Shards, open for reading.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A shard of which any part can be read, by any number of threads at once.
///
/// Read, not mapped: a copy out of a mapping takes a third less CPU (docs/data.md), which no batch notices; but a part that is
/// not in memory comes in one request, and a file that has shrunk is an error, where a mapping would end the process.
#[derive(Debug)]
pub(super) struct ShardFile {
    path: PathBuf,
    /// `None` where it is opened for each read: a process may hold only so many files.
    open: Option<File>,
}

impl ShardFile {
    /// Opens a shard, and refuses one of less than `bytes`.
    pub(super) fn open(path: &Path, bytes: u64, keep: bool) -> Result<Self> {
        let about = path.metadata().map_err(|e| Error::read(path, e))?;
        if !about.is_file() || about.len() < bytes {
            let found = if about.is_file() {
                format!("{} bytes", about.len())
            } else {
                "no regular file".to_owned()
            };
            let expected = format!("{bytes} bytes, as its index says");
            return Err(Error::shards(path, None, expected, found));
        }
        let open = keep.then(|| File::open(path)).transpose().map_err(|e| Error::read(path, e))?;
        Ok(Self { path: path.to_path_buf(), open })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Fills `out` from `offset` on.
    pub(super) fn read(&self, out: &mut [u8], offset: u64) -> Result<()> {
        let read = match &self.open {
            Some(file) => file.read_exact_at(out, offset),
            None => File::open(&self.path).and_then(|file| file.read_exact_at(out, offset)),
        };
        read.map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => {
                let expected = format!("{} bytes from byte {offset} on", out.len());
                Error::damaged(&self.path, expected, "a file that has become shorter")
            }
            _ => Error::read(&self.path, e),
        })
    }
}
