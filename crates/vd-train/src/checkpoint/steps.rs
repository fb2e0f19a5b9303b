//! The checkpoints of a run, by step.

use std::fs;
use std::path::{Path, PathBuf};

use vd_tensor_ops::Weights;

use super::{CHECKPOINTS, CONFIG, Checkpoint, OPTIMIZER, STATE, UNCERTAINTY, WeightKind};
use crate::folder::PREVIEWS;
use crate::{Error, Result};

/// The prefix of directories that are being written or removed.
const UNFINISHED: &str = ".unfinished-step-";

/// The directory of a step's checkpoint.
pub(super) fn step_dir(out: &Path, step: u64) -> PathBuf {
    out.join(CHECKPOINTS).join(format!("step-{step:08}"))
}

/// The directory in which a step's checkpoint is written at first.
pub(super) fn unfinished_dir(out: &Path, step: u64) -> PathBuf {
    out.join(CHECKPOINTS).join(format!("{UNFINISHED}{step:08}"))
}

/// Prefix and suffix of the temporary files of atomic writes.
const TEMPORARY: (&str, &str) = (".vd-", ".tmp");

/// The purpose of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Sampling: its config and its weights suffice.
    Sample,
    /// Resuming, for which all files are needed.
    Resume,
}

/// The newest checkpoint of a run that is complete enough for its purpose; warns about those that
/// are skipped.
pub(crate) fn newest(out: &Path, wanted: Use) -> Result<Option<Checkpoint>> {
    search(out, wanted, &|error| {
        tracing::warn!("passed over a checkpoint that is not whole: {error}");
    })
}

/// Like [`newest`], without warnings, for callers that run before the one that warns.
pub(crate) fn newest_unwarned(out: &Path, wanted: Use) -> Result<Option<Checkpoint>> {
    search(out, wanted, &|_| ())
}

fn search(out: &Path, wanted: Use, passed: &dyn Fn(Error)) -> Result<Option<Checkpoint>> {
    for step in steps(out)?.into_iter().rev() {
        match whole(&step_dir(out, step), step, wanted) {
            Ok(checkpoint) => return Ok(Some(checkpoint)),
            Err(error) => passed(error),
        }
    }
    Ok(None)
}

/// Removes all complete checkpoints except the newest `keep` and that of the step `saved`.
///
/// Incomplete directories are not counted: no run can resume from them.
pub(crate) fn prune(out: &Path, keep: usize, saved: u64) -> Result<()> {
    let mut steps = steps(out)?;
    steps.retain(|step| whole(&step_dir(out, *step), *step, Use::Resume).is_ok());
    let old = &steps[..steps.len().saturating_sub(keep)];
    for step in old.iter().filter(|step| **step != saved) {
        remove(&put_aside(out, *step)?)?;
    }
    Ok(())
}

/// Renames the directory of a step's checkpoint, and returns its new name: a half-removed directory
/// must not look like a checkpoint. [`clean`] recognises the name.
pub(super) fn put_aside(out: &Path, step: u64) -> Result<PathBuf> {
    let (dir, doomed) = (step_dir(out, step), out.join(CHECKPOINTS).join(doomed_name(step)));
    remove(&doomed)?;
    match fs::rename(&dir, &doomed) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(&dir)(error)),
        _ => Ok(doomed),
    }
}

fn doomed_name(step: u64) -> String {
    format!("{UNFINISHED}{step:08}-old")
}

/// Removes what an interrupted run left half written or half removed.
pub(crate) fn clean(out: &Path) -> Result<()> {
    let checkpoints = out.join(CHECKPOINTS);
    let unfinished = |folder: &Path, name: &str| {
        folder == checkpoints && name.starts_with(UNFINISHED) && folder.join(name).is_dir()
    };
    let temporary = |folder: &Path, name: &str| {
        let named = name.starts_with(TEMPORARY.0) && name.ends_with(TEMPORARY.1);
        named && folder.join(name).is_file()
    };
    for folder in [out, &checkpoints, &out.join(PREVIEWS)] {
        for name in names(folder)? {
            if unfinished(folder, &name) || temporary(folder, &name) {
                tracing::info!("removing a leftover of an interrupted run: {name}");
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

/// The steps that have a directory, in ascending order.
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

/// A checkpoint in which no file needed for its purpose is missing or truncated.
fn whole(dir: &Path, step: u64, wanted: Use) -> Result<Checkpoint> {
    let weights = WeightKind::ALL.map(WeightKind::file).into_iter();
    let weights = weights.chain((wanted == Use::Resume).then_some(OPTIMIZER));
    let texts = [CONFIG].into_iter().chain((wanted == Use::Resume).then_some(STATE));
    if let Some(name) = weights.clone().chain(texts).find(|name| !dir.join(name).is_file()) {
        return Err(Error::checkpoint(dir, format!("{name} is missing")));
    }
    for name in weights {
        Weights::check(&dir.join(name))?;
    }
    let checkpoint = Checkpoint::read(dir)?;
    if wanted == Use::Resume && checkpoint.config.has_uncertainty() {
        let path = dir.join(UNCERTAINTY);
        if !path.is_file() {
            return Err(Error::checkpoint(dir, format!("{UNCERTAINTY} is missing")));
        }
        Weights::check(&path)?;
    }
    match &checkpoint.state {
        Some(state) if state.step == step => Ok(checkpoint),
        None if wanted == Use::Sample => Ok(checkpoint),
        _ => Err(Error::checkpoint(dir, format!("state.json is not of step {step}"))),
    }
}
