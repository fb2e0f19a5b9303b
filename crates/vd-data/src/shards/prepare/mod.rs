//! Converts videos and arrays to shards: once, with several threads, and resumable.

mod clip;
mod numbers;
mod options;
mod report;
mod state;
mod work;
mod writer;

use std::ops::ControlFlow;
use std::path::Path;

use serde::Serialize;

use super::INDEX;
use super::name::Name;
use super::record::{BadLine, FORMAT, Header, Line, Settings, Told, VERSION};
use crate::decode::extension;
use crate::folder::{BadFile, Entry, Folder, folder_contains};
use crate::write::write_file;
use crate::{Error, Result};

pub use options::Prepare;
pub use report::{Prepared, Progress, StoredArrays};

use state::State;

/// What could not be prepared, a line each.
const BAD: &str = "bad.jsonl";

/// Reads every video and array below a folder once, into shards: see [`crate::Source::Shards`].
///
/// A clip with a number that [`Prepare::dtype`] cannot represent counts as one that cannot be
/// prepared.
///
/// Clips finished by one run are kept by the next one, whether it ended normally or was killed, as
/// long as the file has the same length and modification time; files that could not be prepared are
/// tried again. `watch` is called for every clip and may stop the run.
///
/// # Errors
/// When a setting is outside its range; when `out` is not empty and contains something else, or
/// clips prepared with other settings, or is being written by another process; when `source`
/// contains no video, more than `max_bad` files cannot be prepared, a file cannot be written, or
/// ffmpeg was killed from outside.
pub fn prepare(
    config: &Prepare,
    watch: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Prepared> {
    config.validate()?;
    let settings = config.settings()?;
    let listed = Folder::list_arrays(&config.source, &config.captions, &config.arrays)?;
    if listed.entries().is_empty() {
        return Err(listed.no_clips());
    }
    check_apart(&config.source, &config.out)?;
    std::fs::create_dir_all(&config.out).map_err(|e| Error::write(&config.out, e))?;
    check_bad(config, listed.bad_files())?;
    let mut state = State::open(&config.out, &settings)?;
    let done = work::prepare_all(config, &listed, &mut state, watch)?;
    let stopped = done.lines.len() < listed.entries().len();
    let mut report = Prepared {
        out: config.out.clone(),
        clips: 0,
        frames: 0,
        bytes: state.bytes(),
        shards: state.shards().len(),
        new: done.new,
        kept: done.kept,
        unused: 0,
        unchanged: false,
        stopped,
        arrays: Vec::new(),
        bad_files: listed.bad_files().to_vec(),
        other_files: listed.other_files().clone(),
    };
    report.bad_files.extend(done.bad);
    report.count(&done.lines);
    if !stopped {
        report.unchanged = !finish(config, &settings, &listed, state, done.lines)?;
    }
    Ok(report)
}

/// Stops a run when too many files cannot be prepared.
fn check_bad(config: &Prepare, bad: &[BadFile]) -> Result<()> {
    const SHOWN: usize = 5;
    match config.max_bad {
        Some(max) if bad.len() > max => {
            let first: Vec<_> =
                bad.iter().take(SHOWN).map(|b| format!("\n  {}", b.reason)).collect();
            let got = format!("{max}, with at least {} of them:{}", bad.len(), first.concat());
            Err(Error::config("max_bad", "at least the number of unreadable files", got))
        }
        _ => Ok(()),
    }
}

/// The shards must not lie inside their own source, nor the source inside the shards.
fn check_apart(source: &Path, out: &Path) -> Result<()> {
    let inside = folder_contains(source, out)? || (out.is_dir() && folder_contains(out, source)?);
    if inside {
        let expected = format!("a folder outside the source {}", source.display());
        return Err(Error::config("out", expected, out.display()));
    }
    Ok(())
}

/// Writes the index, the table and the report; returns whether anything has changed.
fn finish(
    config: &Prepare,
    settings: &Settings,
    listed: &Folder,
    state: State,
    mut lines: Vec<Line>,
) -> Result<bool> {
    for bad in listed.bad_files() {
        let name = bad.path.strip_prefix(&config.source).unwrap_or(&bad.path);
        let reason = bad.reason.clone();
        lines.push(Line::Unlisted(BadLine { name: Name::of(name), caption: None, reason }));
    }
    let mut changed = false;
    let captions = match config.captions.table_below(&config.source) {
        None => Told::Lines,
        Some(table) => {
            let name = format!("table.{}", extension(&table));
            let bytes = std::fs::read(&table).map_err(|e| Error::read(&table, e))?;
            changed |= replace(&config.out.join(&name), &bytes)?;
            Told::Table(name)
        }
    };
    let header = Header {
        format: FORMAT.to_owned(),
        version: VERSION,
        settings: settings.clone(),
        captions,
        shards: state.shards().to_vec(),
        lines: lines.len() as u64,
    };
    let mut index = line(&header);
    let mut bad = Vec::new();
    for each in &lines {
        index.extend(line(each));
        if let Line::Bad(one) | Line::Unlisted(one) = each {
            bad.extend(line(&serde_json::json!({ "name": one.name, "reason": one.reason })));
        }
    }
    changed |= replace(&config.out.join(BAD), &bad)?;
    changed |= replace(&config.out.join(INDEX), &index)?;
    state.close()?;
    Ok(changed)
}

/// Writes a file unless it already contains these bytes.
fn replace(path: &Path, bytes: &[u8]) -> Result<bool> {
    if std::fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(false);
    }
    write_file(path, bytes).map(|()| true)
}

/// A value as a line of JSON.
fn line(value: &impl Serialize) -> Vec<u8> {
    // plain structures of text and numbers, all of which JSON can represent
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    text
}

/// The line of a clip that could not be prepared, and its entry in the report.
fn bad(entry: &Entry, error: &Error) -> (Line, BadFile) {
    let reason = error.to_string();
    let line = BadLine {
        name: Name::of(&entry.name),
        caption: entry.caption.clone(),
        reason: reason.clone(),
    };
    (Line::Bad(line), BadFile { path: entry.media.path().to_path_buf(), reason })
}
