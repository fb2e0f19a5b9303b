//! The lines of an index and of a journal.

use serde::{Deserialize, Serialize};

use super::name::Name;
use crate::array::{self, Axes};

/// The version that is written; no other version is read.
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

    /// The same as a dtype of arrays.
    pub fn numbers(self) -> array::Dtype {
        match self {
            Self::U8 => array::Dtype::U8,
            Self::F16 => array::Dtype::F16,
            Self::F32 => array::Dtype::F32,
        }
    }
}

/// The first line of an index or journal.
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

/// The settings that determine the bytes of prepared clips.
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) dtype: Option<Dtype>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) axes: Option<Axes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) member: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) invalid: Option<String>,
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
                ("dtype", maybe(s.dtype.map(|dtype| dtype.numbers().to_string()))),
                ("axes", maybe(s.axes.as_ref().map(Axes::to_string))),
                ("member", maybe(s.member.clone())),
                ("invalid", maybe(s.invalid.clone())),
            ]
        };
        let pairs = of(self).into_iter().zip(of(other));
        let mut different = pairs.filter(|((_, one), (_, two))| one != two);
        different.next().map(|((name, one), (_, two))| (name, one, two))
    }
}

/// Any line after the first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Line {
    /// A clip that was prepared.
    Clip(ClipLine),
    /// A clip that could not be prepared; it keeps its position in the order, as in its folder.
    Bad(BadLine),
    /// A file that was not recognised as a clip in the first place.
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

/// A clip and its location.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClipLine {
    pub(super) name: Name,
    pub(super) shard: u32,
    pub(super) offset: u64,
    /// f h w c
    pub(super) shape: [usize; 4],
    pub(super) dtype: Dtype,
    /// The shortest decimal text that reads back as the same number, which JSON numbers do not
    /// guarantee.
    pub(super) fps: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) caption: Option<String>,
    /// The first half of the SHA-256 of its bytes, in hexadecimal.
    pub(super) sha256: String,
    pub(super) from: Signature,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) array: Option<ArrayLine>,
}

/// Identifies a clip in a folder: a file of arrays holds several.
pub(super) type Key = (Name, Option<String>, u64);

impl ClipLine {
    pub(super) fn key(&self) -> Key {
        let (member, clip) =
            self.array.as_ref().map_or((None, 0), |array| (array.member.clone(), array.clip));
        (self.name.clone(), member, clip)
    }
}

/// The origin of a clip that was prepared from an array.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ArrayLine {
    /// The name of the array in its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) member: Option<String>,
    /// The index of the clip in the array.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) clip: u64,
    /// The original dtype.
    pub(super) dtype: array::Dtype,
    /// How many numbers are stored as a different number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) rounded: u64,
    /// The largest relative deviation; a decimal text, like `fps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) furthest: Option<String>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A clip or file that could not be prepared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BadLine {
    pub(super) name: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) caption: Option<String>,
    pub(super) reason: String,
}

/// Detects whether a source has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signature {
    /// The number of files: 1, or the number of frames of a folder.
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// When the newest of them was modified, in nanoseconds since 1970.
    pub(super) modified: i64,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use super::*;

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
            dtype: None,
            axes: None,
            member: None,
            invalid: None,
        };
        assert_eq!(one.difference(&one), None);
        let other = Settings { size: Some([8, 4]), stride: 2, ..one.clone() };
        let found = one.difference(&other).unwrap();
        assert_eq!(found, ("size", "as it is".to_owned(), "8x4".to_owned()));
        let other = Settings { dtype: Some(Dtype::F16), ..one.clone() };
        assert_eq!(one.difference(&other), Some(("dtype", "none".to_owned(), "f16".to_owned())));
        // the lines for videos are the same as before arrays were supported
        let text = serde_json::to_string(&one).unwrap();
        assert!(!text.contains("dtype") && !text.contains("invalid"), "{text}");
    }
}
