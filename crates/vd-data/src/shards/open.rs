//! Reads a folder of shards as a folder of clips.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file::ShardFile;
use super::index::{Index, rate};
use super::packed::{Packed, Stored};
use super::record::{ClipLine, Line, Settings, Told};
use super::shard_path;
use crate::captions::{Captions, Table};
use crate::decode::Media;
use crate::folder::{BadFile, Entry, Folder};
use crate::{Error, Result};

/// How many shards are kept open; others are opened for each access.
const KEPT_OPEN: usize = 256;

/// Lists prepared clips as [`Folder::list_with`] lists their sources: the same names in the same
/// order, with the same captions and rows. Also returns where the captions come from.
pub(crate) fn list(folder: &Path) -> Result<(Folder, Captions)> {
    let index = Index::read(folder)?;
    let shards = open(folder, &index.header.shards)?;
    let (table, captions) = match &index.header.captions {
        Told::Lines => (None, Captions::Beside),
        Told::Table(name) => {
            let path = table_path(folder, name).map_err(|found| {
                Error::shards(&index.path, Some(1), "a table of captions in the folder", found)
            })?;
            (Some(Table::read(&path)?), Captions::Table(PathBuf::from(name)))
        }
    };
    let (mut entries, mut unlisted) = (Vec::with_capacity(index.lines.len()), Vec::new());
    for line in &index.lines {
        let name = line.name().path();
        let (packed, caption) = match line {
            Line::Clip(clip) => {
                let Some(stored) = stored(clip, &shards, &index.header.settings) else {
                    continue;
                };
                (Packed::clip(stored), &clip.caption)
            }
            Line::Bad(bad) => (Packed::bad(name.clone(), bad.reason.clone()), &bad.caption),
            Line::Unlisted(bad) => {
                unlisted.push(BadFile { path: name, reason: bad.reason.clone() });
                continue;
            }
        };
        let mut entry =
            Entry { media: Media::Packed(packed), name, caption: caption.clone(), row: None };
        if let Some(found) = table.as_ref().and_then(|table| table.find(&entry.name)) {
            entry.caption.clone_from(&found.caption);
            entry.row = Some(Arc::clone(&found.row));
        }
        entries.push(entry);
    }
    if let Some(table) = table {
        let names = entries.iter().map(|entry| entry.name.as_path());
        table.check_files(names.chain(unlisted.iter().map(|bad| bad.path.as_path())))?;
    }
    Ok((Folder::of(folder, entries, unlisted), captions))
}

/// A clip in its shard; `None` if the shard or the rate is missing, which a validated index rules
/// out.
fn stored(clip: &ClipLine, shards: &[Arc<ShardFile>], settings: &Settings) -> Option<Stored> {
    let array = clip.array.as_ref();
    Some(Stored {
        shard: Arc::clone(shards.get(clip.shard as usize)?),
        offset: clip.offset,
        shape: clip.shape,
        dtype: clip.dtype,
        fps: rate(clip)?,
        array: array.is_some(),
        changed: array.is_some_and(|array| array.rounded > 0 || settings.size.is_some()),
        invalid: settings.invalid.as_ref().and_then(|invalid| invalid.parse().ok()),
    })
}

/// Opens every shard of an index.
fn open(folder: &Path, lengths: &[u64]) -> Result<Vec<Arc<ShardFile>>> {
    (0u32..)
        .zip(lengths)
        .map(|(number, bytes)| {
            let keep = (number as usize) < KEPT_OPEN;
            ShardFile::open(&shard_path(folder, number), *bytes, keep).map(Arc::new)
        })
        .collect()
}

/// The path of the table named in an index; it must be a file directly in the folder.
fn table_path(folder: &Path, name: &str) -> std::result::Result<PathBuf, String> {
    if ["table.csv", "table.jsonl", "table.ndjson"].contains(&name) {
        Ok(folder.join(name))
    } else {
        Err(format!("{name:?}"))
    }
}
