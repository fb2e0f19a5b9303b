//! The folder of a run.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use vd_data::ClipFormat;

use crate::{Error, Result};

/// The folder of a run's previews.
pub(crate) const PREVIEWS: &str = "previews";

/// The folder of a run, locked against other processes until it is dropped.
#[derive(Debug)]
pub(crate) struct RunFolder {
    pub(crate) out: PathBuf,
    /// The system releases it when the process ends, in whatever way.
    _lock: File,
}

impl RunFolder {
    /// Creates the folder, locks it, and cleans up after an interrupted run.
    pub(crate) fn open(out: &Path) -> Result<Self> {
        fs::create_dir_all(out).map_err(Error::io(out))?;
        let path = out.join(".lock");
        let lock = File::create(&path).map_err(Error::io(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Locked { out: out.to_path_buf() });
            }
            Err(TryLockError::Error(source)) => return Err(Error::io(&path)(source)),
        }
        crate::checkpoint::clean(out)?;
        Ok(RunFolder { out: out.to_path_buf(), _lock: lock })
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.out.join("config.toml")
    }

    pub(crate) fn metrics(&self) -> PathBuf {
        self.out.join("metrics.jsonl")
    }

    /// The path for the preview of a step; creates the folder.
    pub(crate) fn preview(&self, step: u64, format: ClipFormat) -> Result<PathBuf> {
        let folder = self.out.join(PREVIEWS);
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        Ok(format.path(&folder.join(format!("step-{step:08}"))))
    }
}
