//! The results of earlier runs, and the journal that records them.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::line;
use super::writer::Ends;
use crate::shards::index::{self, Index};
use crate::shards::record::{ClipLine, FORMAT, Header, Key, Line, Settings, Told, VERSION};
use crate::shards::{MAGIC, is_shards, shard_path};
use crate::{Error, Result};

/// The clips that are finished, until there is an index of them.
const JOURNAL: &str = "journal.jsonl";

/// A folder of shards that is being written, locked against other writers.
#[derive(Debug)]
pub(super) struct State {
    folder: PathBuf,
    done: HashMap<Key, ClipLine>,
    pub(super) ends: Ends,
    journal: File,
    /// Held as long as the state lives.
    _lock: File,
}

impl State {
    /// Opens a folder that is new or was prepared with the same settings, and removes bytes that
    /// belong to no line.
    pub(super) fn open(folder: &Path, settings: &Settings) -> Result<Self> {
        let lock = lock(folder)?;
        let known = is_shards(folder) || is_journal(&folder.join(JOURNAL));
        if !known && fs::read_dir(folder).map_err(|e| Error::read(folder, e))?.next().is_some() {
            let expected = "a new or empty folder, or one that vd data prepare wrote";
            return Err(Error::config("out", expected, folder.display()));
        }
        let mut done = HashMap::new();
        let mut ends = Ends::default();
        if is_shards(folder) {
            let index = Index::read(folder)?;
            check_settings(folder, &index.header.settings, settings)?;
            for (number, length) in (0u32..).zip(&index.header.shards) {
                ends.reach(number, *length);
            }
            for (_, clip) in index.clips() {
                done.insert(clip.key(), clip.clone());
            }
        }
        let journal = journal(folder, settings, &mut |clip, bytes| {
            // clips whose bytes are not on the disk are prepared again
            let path = shard_path(folder, clip.shard);
            let end = clip.offset.saturating_add(bytes);
            if path.metadata().is_ok_and(|about| about.len() >= end) {
                ends.reach(clip.shard, end);
                done.insert(clip.key(), clip);
            }
        })?;
        cut(folder, ends.all())?;
        Ok(Self { folder: folder.to_path_buf(), done, ends, journal, _lock: lock })
    }

    /// A clip's line from an earlier run.
    pub(super) fn find(&self, key: &Key) -> Option<&ClipLine> {
        self.done.get(key)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The length of each shard.
    pub(super) fn shards(&self) -> &[u64] {
        self.ends.all()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.ends.all().iter().sum()
    }

    /// Records lines of clips whose bytes are on the disk.
    pub(super) fn keep(&mut self, lines: &[u8]) -> Result<()> {
        let path = self.folder.join(JOURNAL);
        let written = self.journal.write_all(lines).and_then(|()| self.journal.sync_data());
        written.map_err(|e| Error::write(&path, e))
    }

    /// Removes the journal: the index contains everything.
    pub(super) fn close(self) -> Result<()> {
        let path = self.folder.join(JOURNAL);
        fs::remove_file(&path).map_err(|e| Error::write(&path, e))
    }
}

/// Whether a file is a journal, or the beginning of one.
fn is_journal(path: &Path) -> bool {
    let mut head = Vec::with_capacity(MAGIC.len());
    let file =
        File::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut head));
    file.is_ok() && MAGIC.starts_with(&head)
}

/// Locks out other processes; on a file system without locks this has no effect.
fn lock(folder: &Path) -> Result<File> {
    let file = File::open(folder).map_err(|e| Error::read(folder, e))?;
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        let expected = "a folder that no other process is writing to";
        return Err(Error::config("out", expected, folder.display()));
    }
    Ok(file)
}

fn check_settings(folder: &Path, there: &Settings, asked: &Settings) -> Result<()> {
    let Some((name, there, asked)) = there.difference(asked) else { return Ok(()) };
    let expected = format!(
        "{there}, as {} was prepared before; prepare into another folder, or remove that one",
        folder.display()
    );
    Err(Error::config(name, expected, asked))
}

/// Reads a journal up to its first incomplete line, cuts the rest off, and leaves it open for
/// appending; a new one gets its header.
fn journal(
    folder: &Path,
    settings: &Settings,
    found: &mut dyn FnMut(ClipLine, u64),
) -> Result<File> {
    let path = folder.join(JOURNAL);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| Error::write(&path, e))?;
    let mut sound = 0;
    {
        let mut reader = BufReader::new(&file);
        // an incomplete first line means that a run was killed while writing it
        if let Ok(Some(_)) = index::next_line(&path, &mut reader, 1) {
            reader.rewind().map_err(|e| Error::read(&path, e))?;
            let header = index::header(&path, &mut reader)?;
            check_settings(folder, &header.settings, settings)?;
            sound = reader.stream_position().map_err(|e| Error::read(&path, e))?;
            while let Ok(Some(text)) = index::next_line(&path, &mut reader, 0) {
                let Ok(Line::Clip(clip)) = serde_json::from_slice(&text) else { break };
                let Some(bytes) = index::bytes(&clip) else { break };
                sound = reader.stream_position().map_err(|e| Error::read(&path, e))?;
                found(clip, bytes);
            }
        }
    }
    let write_error = |e| Error::write(&path, e);
    file.set_len(sound).map_err(write_error)?;
    file.seek(SeekFrom::Start(sound)).map_err(write_error)?;
    if sound == 0 {
        let header = Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            settings: settings.clone(),
            captions: Told::Lines,
            shards: Vec::new(),
            lines: 0,
        };
        file.write_all(&line(&header)).and_then(|()| file.sync_data()).map_err(write_error)?;
    }
    Ok(file)
}

/// Removes what an interrupted run has written but not recorded.
fn cut(folder: &Path, ends: &[u64]) -> Result<()> {
    for (number, end) in (0u32..).zip(ends) {
        let path = shard_path(folder, number);
        let about = path.metadata().map_err(|e| Error::read(&path, e))?;
        if about.len() < *end {
            let expected = format!("{end} bytes, as its index states; prepare into another folder");
            return Err(Error::shards(&path, None, expected, format!("{} bytes", about.len())));
        }
        if about.len() > *end {
            let file = File::options().write(true).open(&path);
            file.and_then(|file| file.set_len(*end)).map_err(|e| Error::write(&path, e))?;
        }
    }
    let mut next = ends.len() as u32;
    loop {
        let path = shard_path(folder, next);
        match fs::remove_file(&path) {
            Ok(()) => next += 1,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Error::write(&path, e)),
        }
    }
}
