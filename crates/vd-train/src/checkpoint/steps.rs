//! The checkpoints of a run, by step.

use std::fs;
use std::path::{Path, PathBuf};

use super::{CHECKPOINTS, CONFIG, Checkpoint, OPTIMIZER, STATE, WeightKind};
use crate::folder::PREVIEWS;
use crate::{Error, Result};

/// What begins the names of directories that are being written or removed.
const UNFINISHED: &str = ".unfinished-";

/// Where the checkpoint of a step lies.
pub(super) fn step_dir(out: &Path, step: u64) -> PathBuf {
    out.join(CHECKPOINTS).join(format!("step-{step:08}"))
}

/// Where the checkpoint of a step is written.
pub(super) fn unfinished_dir(out: &Path, step: u64) -> PathBuf {
    out.join(CHECKPOINTS).join(format!("{UNFINISHED}step-{step:08}"))
}

/// The newest whole checkpoint of a run.
pub(crate) fn newest(out: &Path) -> Result<Option<Checkpoint>> {
    for step in steps(out)?.into_iter().rev() {
        let dir = step_dir(out, step);
        match whole(&dir, step) {
            Ok(checkpoint) => return Ok(Some(checkpoint)),
            Err(error) => tracing::warn!("passed over a checkpoint that is not whole: {error}"),
        }
    }
    Ok(None)
}

/// Removes all checkpoints but the newest `keep`.
pub(crate) fn prune(out: &Path, keep: usize) -> Result<()> {
    let steps = steps(out)?;
    for step in &steps[..steps.len().saturating_sub(keep)] {
        // Renamed first: a directory that is half removed must not look like a checkpoint.
        let (dir, doomed) = (step_dir(out, *step), unfinished_dir(out, *step));
        remove(&doomed)?;
        fs::rename(&dir, &doomed).map_err(Error::io(&dir))?;
        remove(&doomed)?;
    }
    Ok(())
}

/// Removes what an interrupted run left half written or half removed.
pub(crate) fn clean(out: &Path) -> Result<()> {
    let unfinished = |name: &str| name.starts_with(UNFINISHED);
    let temporary = |name: &str| {
        name.starts_with('.') && [".tmp", ".part"].iter().any(|end| name.ends_with(end))
    };
    for folder in [out.to_path_buf(), out.join(CHECKPOINTS), out.join(PREVIEWS)] {
        for name in names(&folder)? {
            if unfinished(&name) || temporary(&name) {
                tracing::info!("removing what an interrupted run left: {name}");
                remove(&folder.join(name))?;
            }
        }
    }
    Ok(())
}

pub(super) fn remove(path: &Path) -> Result<()> {
    let done = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match done {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(error)),
        _ => Ok(()),
    }
}

/// The steps that have a directory, ascending.
fn steps(out: &Path) -> Result<Vec<u64>> {
    let number = |name: String| {
        let digits = name.strip_prefix("step-")?;
        digits.parse().ok().filter(|step| format!("{step:08}") == digits)
    };
    let mut steps: Vec<u64> =
        names(&out.join(CHECKPOINTS))?.into_iter().filter_map(number).collect();
    steps.sort_unstable();
    Ok(steps)
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io(folder))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

/// A checkpoint that a run can go on from.
fn whole(dir: &Path, step: u64) -> Result<Checkpoint> {
    let files = WeightKind::ALL.map(WeightKind::file);
    let missing = files.into_iter().chain([CONFIG, OPTIMIZER, STATE]);
    if let Some(name) = missing.into_iter().find(|name| !dir.join(name).is_file()) {
        return Err(Error::checkpoint(dir, format!("{name} is missing")));
    }
    let checkpoint = Checkpoint::read(dir)?;
    match &checkpoint.state {
        Some(state) if state.step == step => Ok(checkpoint),
        _ => Err(Error::checkpoint(dir, format!("state.json is not of step {step}"))),
    }
}
