//! The index of a folder of shards, read line by line and validated before use.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::record::{ClipLine, FORMAT, Header, Line, VERSION};
use super::{ALIGN, INDEX};
use crate::captions::MAX_CAPTION;
use crate::clip::{MAX_CLIP_BYTES, check_shape};
use crate::{Error, Result};

/// The longest line: the longest caption, escaped, and a reason.
const MAX_LINE: u64 = 1 << 20;

/// A header and its lines.
#[derive(Debug)]
pub(super) struct Index {
    pub(super) path: PathBuf,
    pub(super) header: Header,
    pub(super) lines: Vec<Line>,
}

impl Index {
    /// Reads the index of a folder of shards and validates every number in it.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(INDEX);
        let file = File::open(&path).map_err(|e| Error::read(&path, e))?;
        let mut reader = BufReader::new(file);
        let header = header(&path, &mut reader)?;
        let mut lines = Vec::new();
        while let Some(text) = next_line(&path, &mut reader, lines.len() as u64 + 2)? {
            let line = serde_json::from_slice(&text).map_err(|e| {
                let number = lines.len() as u64 + 2;
                Error::shards(&path, Some(number), "a clip of an index", e.to_string())
            })?;
            lines.push(line);
        }
        let index = Self { path, header, lines };
        index.check()?;
        Ok(index)
    }

    /// The clips, each with its line number.
    pub(super) fn clips(&self) -> impl Iterator<Item = (u64, &ClipLine)> {
        (2..).zip(&self.lines).filter_map(|(number, line)| match line {
            Line::Clip(clip) => Some((number, clip)),
            Line::Bad(_) | Line::Unlisted(_) => None,
        })
    }

    fn check(&self) -> Result<()> {
        if self.header.lines != self.lines.len() as u64 {
            let expected = format!("{} lines after the first", self.header.lines);
            return Err(Error::shards(&self.path, None, expected, self.lines.len().to_string()));
        }
        for (number, clip) in self.clips() {
            check_clip(clip, &self.header.shards)
                .map_err(|(expected, found)| self.refuse(number, expected, found))?;
        }
        self.check_overlaps()
    }

    /// Checks that no byte belongs to two clips.
    fn check_overlaps(&self) -> Result<()> {
        let place = |(number, clip): (u64, &ClipLine)| {
            (clip.shard, clip.offset, clip.offset + bytes(clip).unwrap_or(0), number)
        };
        let mut places: Vec<_> = self.clips().map(place).collect();
        places.sort_unstable();
        for pair in places.windows(2) {
            let ((shard, _, end, first), (other, start, _, number)) = (pair[0], pair[1]);
            if shard == other && start < end {
                let expected = format!("its own bytes in shard {shard}");
                return Err(self.refuse(
                    number,
                    expected,
                    format!("some that belong to line {first}"),
                ));
            }
        }
        Ok(())
    }

    fn refuse(&self, line: u64, expected: impl Into<String>, found: impl Into<String>) -> Error {
        Error::shards(&self.path, Some(line), expected, found)
    }
}

/// The size of a clip in bytes; `None` if it exceeds the limit.
pub(super) fn bytes(clip: &ClipLine) -> Option<u64> {
    let [f, h, w, c] = clip.shape;
    let bytes = [h, w, c, clip.dtype.bytes()].into_iter().try_fold(f, usize::checked_mul)?;
    (1..=MAX_CLIP_BYTES * clip.dtype.bytes()).contains(&bytes).then_some(bytes as u64)
}

/// The rate of a clip.
pub(super) fn rate(clip: &ClipLine) -> Option<f64> {
    clip.fps.parse().ok().filter(|fps: &f64| fps.is_finite() && *fps > 0.0)
}

type Mismatch = (String, String);

/// Checks that a clip has a valid shape and lies within its shard.
fn check_clip(clip: &ClipLine, shards: &[u64]) -> std::result::Result<(), Mismatch> {
    let refuse = |expected: &str, found: String| Err((expected.to_owned(), found));
    let [f, h, w, c] = clip.shape;
    let Some(bytes) = bytes(clip).filter(|_| check_shape(f, [h, w], c).is_ok()) else {
        return refuse(
            "a shape f h w c of at least 1 and at most 2 GiB",
            format!("{f} {h} {w} {c}"),
        );
    };
    let side = crate::MAX_SIDE as usize;
    if h > side || w > side {
        return refuse("frames of at most 16384 pixels per side", format!("{h} x {w}"));
    }
    let Some(length) = shards.get(clip.shard as usize) else {
        let expected = format!("a shard below {}", shards.len());
        return Err((expected, clip.shard.to_string()));
    };
    let end = clip.offset.checked_add(bytes);
    if end.is_none_or(|end| end > *length) || !clip.offset.is_multiple_of(ALIGN) {
        let expected = format!("{bytes} bytes at a multiple of {ALIGN} within {length}");
        return Err((expected, format!("offset {}", clip.offset)));
    }
    if rate(clip).is_none() {
        return refuse("a positive, finite frame rate", clip.fps.clone());
    }
    match clip.caption.as_ref().map(String::len) {
        Some(n) if n as u64 > MAX_CAPTION => {
            refuse("a caption of at most 65536 bytes", format!("{n} bytes"))
        }
        _ => Ok(()),
    }
}

/// Reads the first line.
pub(super) fn header(path: &Path, reader: &mut impl BufRead) -> Result<Header> {
    let refuse = |found: String| {
        let expected = "the header of an index of prepared clips (vd data prepare)";
        Error::shards(path, Some(1), expected, found)
    };
    let text = next_line(path, reader, 1)?.ok_or_else(|| refuse("an empty file".to_owned()))?;
    // a later version may have other keys, so its number is checked first
    let any: serde_json::Value =
        serde_json::from_slice(&text).map_err(|e| refuse(e.to_string()))?;
    if any.get("format").and_then(|format| format.as_str()) != Some(FORMAT) {
        return Err(refuse("another text".to_owned()));
    }
    let version = any.get("version").and_then(serde_json::Value::as_u64);
    if version != Some(u64::from(VERSION)) {
        let found = version.map_or("none".to_owned(), |version| version.to_string());
        let expected = format!("version {VERSION} of the format; prepare the clips again");
        return Err(Error::shards(path, Some(1), expected, found));
    }
    serde_json::from_value(any).map_err(|e| refuse(e.to_string()))
}

/// The next line without its line ending; `None` at the end of the file.
pub(super) fn next_line(
    path: &Path,
    reader: &mut impl BufRead,
    number: u64,
) -> Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut text);
    if read.map_err(|e| Error::read(path, e))? == 0 {
        return Ok(None);
    }
    if text.pop_if(|last| *last == b'\n').is_none() {
        let expected = format!("a line of at most {MAX_LINE} bytes with its end");
        return Err(Error::shards(path, Some(number), expected, format!("{} bytes", text.len())));
    }
    Ok(Some(text))
}
