//! The lines of an index and of a journal.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The version that is written, and the only one that is read.
pub(super) const VERSION: u32 = 1;
/// The name of the format.
pub(super) const FORMAT: &str = "vd-shards";

/// How one sample is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Dtype {
    /// A byte.
    U8,
    /// A float of 16 bits, little-endian.
    F16,
    /// A float of 32 bits, little-endian.
    F32,
}

impl Dtype {
    /// Bytes of one sample.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) format: String,
    pub(super) version: u32,
    pub(super) settings: Settings,
    /// Where the captions are.
    #[serde(default)]
    pub(super) captions: Told,
    /// How many bytes of each shard belong to the index; empty in a journal.
    #[serde(default)]
    pub(super) shards: Vec<u64>,
    /// How many lines follow; 0 in a journal.
    #[serde(default)]
    pub(super) lines: u64,
}

/// Where the captions of prepared clips are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Told {
    /// In the lines of the clips.
    #[default]
    Lines,
    /// In a table in the folder, of this name.
    Table(String),
}

/// What decides the bytes of prepared clips.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) source: Name,
    pub(super) channels: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<[usize; 2]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) fps: Option<String>,
    pub(super) stride: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_frames: Option<usize>,
    pub(super) shard_bytes: u64,
}

impl Settings {
    /// The first setting in which two differ: its name, this one's value and the other's.
    pub(super) fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        let side = |size: Option<[usize; 2]>| {
            size.map_or("as it is".to_owned(), |[h, w]| format!("{h}x{w}"))
        };
        let maybe = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
        let of = |s: &Self| {
            [
                ("source", s.source.path().display().to_string()),
                ("size", side(s.size)),
                ("fps", maybe(s.fps.clone())),
                ("stride", s.stride.to_string()),
                ("max_frames", maybe(s.max_frames.map(|n| n.to_string()))),
                ("channels", s.channels.to_string()),
                ("shard_bytes", s.shard_bytes.to_string()),
            ]
        };
        let pairs = of(self).into_iter().zip(of(other));
        let mut different = pairs.filter(|((_, one), (_, two))| one != two);
        different.next().map(|((name, one), (_, two))| (name, one, two))
    }
}

/// Any line behind the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Line {
    /// A clip that was prepared.
    Clip(ClipLine),
    /// A clip that could not be: it keeps its place in the order, as it has one in its folder.
    Bad(BadLine),
    /// A file that was no clip from the beginning.
    Unlisted(BadLine),
}

impl Line {
    pub(super) fn name(&self) -> &Name {
        match self {
            Self::Clip(clip) => &clip.name,
            Self::Bad(bad) | Self::Unlisted(bad) => &bad.name,
        }
    }
}

/// A clip and where it lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClipLine {
    pub(super) name: Name,
    pub(super) shard: u32,
    pub(super) offset: u64,
    /// f h w c
    pub(super) shape: [usize; 4],
    pub(super) dtype: Dtype,
    /// The shortest decimals that read back as the same number: JSON numbers need not.
    pub(super) fps: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) caption: Option<String>,
    /// The first half of the SHA-256 of its bytes, in hexadecimal.
    pub(super) sha256: String,
    pub(super) from: Signature,
}

/// What could not be prepared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BadLine {
    pub(super) name: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) caption: Option<String>,
    pub(super) reason: String,
}

/// What tells whether a source has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signature {
    /// Files: 1, or the number of frames of a folder.
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// When the newest of them was written, in nanoseconds since 1970.
    pub(super) modified: i64,
}

/// A path, whatever its bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Name {
    /// One that is text.
    Text(String),
    /// Any other.
    Bytes {
        /// Its bytes in hexadecimal.
        hex: String,
    },
}

impl Name {
    pub(super) fn of(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Bytes { hex: to_hex(path.as_os_str().as_encoded_bytes()) },
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::Text(text) => PathBuf::from(text),
            Self::Bytes { hex } => PathBuf::from(from_bytes(of_hex(hex))),
        }
    }
}

#[cfg(unix)]
fn from_bytes(bytes: Vec<u8>) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}

#[cfg(not(unix))]
fn from_bytes(bytes: Vec<u8>) -> OsString {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// What is no digit counts as 0: such a name leads nowhere, and nothing is opened by it.
fn of_hex(hex: &str) -> Vec<u8> {
    let digit = |c: &u8| char::from(*c).to_digit(16).unwrap_or(0) as u8;
    hex.as_bytes().chunks(2).map(|two| two.iter().fold(0, |n, c| (n << 4) | digit(c))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn any_name_survives_a_line() {
        use std::os::unix::ffi::OsStringExt;
        for bytes in [&b"a/b.gif"[..], b"-n\n\"x\".gif", b"\xff\xfe/\x80.gif", "ä".as_bytes()] {
            let path = PathBuf::from(OsString::from_vec(bytes.to_vec()));
            let text = serde_json::to_string(&Name::of(&path)).unwrap();
            assert!(!text.contains('\n'));
            assert_eq!(serde_json::from_str::<Name>(&text).unwrap().path(), path);
        }
    }

    #[test]
    fn the_first_different_setting_is_named_with_both_values() {
        let one = Settings {
            source: Name::of(Path::new("a")),
            channels: 3,
            size: None,
            fps: None,
            stride: 1,
            max_frames: Some(8),
            shard_bytes: 64,
        };
        assert_eq!(one.difference(&one), None);
        let other = Settings { size: Some([8, 4]), stride: 2, ..one.clone() };
        let found = one.difference(&other).unwrap();
        assert_eq!(found, ("size", "as it is".to_owned(), "8x4".to_owned()));
    }
}
