//! Writes clips one after another into shards.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::line;
use super::state::State;
use crate::shards::record::{ClipLine, Line};
use crate::shards::{ALIGN, shard_path};
use crate::{Error, Result};

/// Clips are committed once this many bytes, or this much time, have accumulated.
const TOGETHER: u64 = 256 << 20;
const SOON: Duration = Duration::from_secs(2);

/// The maximum number of shards in a folder.
const MAX_SHARDS: usize = 1 << 20;

/// The length of each shard.
#[derive(Debug, Default)]
pub(super) struct Ends(Vec<u64>);

impl Ends {
    /// Extends shard `number` to at least `end`.
    pub(super) fn reach(&mut self, number: u32, end: u64) {
        let number = number as usize;
        if number >= MAX_SHARDS {
            return;
        }
        if number >= self.0.len() {
            self.0.resize(number + 1, 0);
        }
        self.0[number] = self.0[number].max(end);
    }

    pub(super) fn all(&self) -> &[u64] {
        &self.0
    }

    /// The position of the next clip of `bytes` bytes.
    fn place(&self, bytes: u64, most: u64) -> (u32, u64) {
        let Some((last, end)) = self.0.len().checked_sub(1).zip(self.0.last()) else {
            return (0, 0);
        };
        let offset = end.next_multiple_of(ALIGN);
        if *end > 0 && offset.saturating_add(bytes) > most {
            (last as u32 + 1, 0)
        } else {
            (last as u32, offset)
        }
    }
}

/// Writes clips; if dropped without [`Writer::commit`], those since the last commit are lost.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    state: &'a mut State,
    most: u64,
    open: Option<(u32, File)>,
    lines: Vec<u8>,
    bytes: u64,
    since: Instant,
}

impl<'a> Writer<'a> {
    pub(super) fn new(state: &'a mut State, most: u64) -> Self {
        let (open, lines) = (None, Vec::new());
        Self { state, most, open, lines, bytes: 0, since: Instant::now() }
    }

    /// Writes the bytes of a clip, and sets its position in its line.
    pub(super) fn write(&mut self, bytes: &[u8], clip: &mut ClipLine) -> Result<()> {
        let length = bytes.len() as u64;
        (clip.shard, clip.offset) = self.state.ends.place(length, self.most);
        let path = shard_path(self.state.folder(), clip.shard);
        if self.open.as_ref().is_none_or(|(number, _)| *number != clip.shard) {
            self.commit()?;
            let opened = File::options().write(true).create(true).truncate(false).open(&path);
            self.open = Some((clip.shard, opened.map_err(|e| Error::write(&path, e))?));
        }
        if let Some((_, file)) = &self.open {
            file.write_all_at(bytes, clip.offset).map_err(|e| Error::write(&path, e))?;
        }
        self.state.ends.reach(clip.shard, clip.offset + length);
        self.lines.extend(line(&Line::Clip(clip.clone())));
        self.bytes += length;
        if self.bytes >= TOGETHER || self.since.elapsed() >= SOON {
            self.commit()?;
        }
        Ok(())
    }

    pub(super) fn total(&self) -> u64 {
        self.state.bytes()
    }

    /// Makes sure that everything written survives a crash.
    pub(super) fn commit(&mut self) -> Result<()> {
        if let Some((number, file)) = &self.open {
            let path = shard_path(self.state.folder(), *number);
            file.sync_data().map_err(|e| Error::write(&path, e))?;
        }
        if !self.lines.is_empty() {
            self.state.keep(&self.lines)?;
        }
        self.lines.clear();
        (self.bytes, self.since) = (0, Instant::now());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_follow_each_other_and_a_full_shard_is_left() {
        let mut ends = Ends::default();
        let mut put = |bytes: u64| {
            let (shard, offset) = ends.place(bytes, 256);
            ends.reach(shard, offset + bytes);
            (shard, offset)
        };
        let places = [100, 100, 10, 64, 300, 1].map(&mut put);
        // 100 ends at 100, and 128 is the next multiple of 64; a clip longer than any shard gets
        // one of its own
        assert_eq!(places, [(0, 0), (0, 128), (1, 0), (1, 64), (2, 0), (3, 0)]);
    }
}
