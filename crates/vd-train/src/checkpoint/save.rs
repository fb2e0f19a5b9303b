//! Writes checkpoints to disk atomically.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tch::Tensor;
use vd_tensor_ops::{Weights, write_atomically};

use super::steps::{put_aside, remove, step_dir, unfinished_dir};
use super::{
    CHECKPOINTS, CONFIG, CheckpointConfig, OPTIMIZER, STATE, State, UNCERTAINTY, WeightKind,
};
use crate::{Error, Result};

/// The parts of a run's checkpoint.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) config: &'a str,
    pub(crate) model: BTreeMap<String, Tensor>,
    pub(crate) ema: BTreeMap<String, Tensor>,
    pub(crate) optimizer: BTreeMap<String, Tensor>,
    pub(crate) uncertainty: Option<BTreeMap<String, Tensor>>,
    pub(crate) state: &'a State,
}

/// Writes the checkpoint of a step, replacing an older one of that step.
///
/// Everything is on the disk before the directory is renamed to its final name.
pub(crate) fn save(out: &Path, parts: Parts<'_>) -> Result<PathBuf> {
    let step = parts.state.step;
    let (unfinished, dir) = (unfinished_dir(out, step), step_dir(out, step));
    remove(&unfinished)?;
    fs::create_dir_all(&unfinished).map_err(Error::io(&unfinished))?;
    write_atomically(&unfinished.join(CONFIG), parts.config.as_bytes())?;
    write_weights(&unfinished.join(WeightKind::Model.file()), parts.model)?;
    write_weights(&unfinished.join(WeightKind::Ema.file()), parts.ema)?;
    write_weights(&unfinished.join(OPTIMIZER), parts.optimizer)?;
    if let Some(uncertainty) = parts.uncertainty {
        write_weights(&unfinished.join(UNCERTAINTY), uncertainty)?;
    }
    write_atomically(&unfinished.join(STATE), parts.state.to_json()?.as_bytes())?;
    let older = put_aside(out, step)?;
    finish(&unfinished, &dir)?;
    sync_dir(out)?;
    sync_dir(&out.join(CHECKPOINTS))?;
    remove(&older)?;
    Ok(dir)
}

/// Writes imported weights as a checkpoint to sample from.
///
/// # Errors
/// A `dir` that exists and is not empty; no weights; an I/O error.
pub fn write_imported(
    dir: &Path,
    config: &CheckpointConfig,
    weights: BTreeMap<WeightKind, BTreeMap<String, Tensor>>,
) -> Result<()> {
    if weights.is_empty() {
        return Err(Error::checkpoint(dir, "expected weights to write, got none"));
    }
    if dir.exists() && fs::read_dir(dir).map_err(Error::io(dir))?.next().is_some() {
        return Err(Error::checkpoint(dir, "exists and is not empty; choose another directory"));
    }
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent).map_err(Error::io(parent))?;
    let unfinished =
        tempfile::Builder::new().prefix(".vd-").tempdir_in(parent).map_err(Error::io(parent))?;
    let at = unfinished.path();
    write_atomically(&at.join(CONFIG), config.to_toml()?.as_bytes())?;
    for (kind, tensors) in weights {
        write_weights(&at.join(kind.file()), tensors)?;
    }
    open_to_others(at)?;
    finish(at, dir)?;
    // It has its final name now, so there is nothing to clean up.
    let _ = unfinished.keep();
    sync_dir(parent)
}

fn write_weights(path: &Path, tensors: BTreeMap<String, Tensor>) -> Result<()> {
    Ok(Weights { tensors, metadata: BTreeMap::new() }.write(path)?)
}

fn finish(unfinished: &Path, dir: &Path) -> Result<()> {
    sync_dir(unfinished)?;
    fs::rename(unfinished, dir).map_err(Error::io(dir))
}

fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(Error::io(dir))
}

/// Temporary directories are private; this one gets the user's usual permissions.
fn open_to_others(dir: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(dir, mode).map_err(Error::io(dir))?;
    }
    Ok(())
}
