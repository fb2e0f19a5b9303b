//! Progress and result of a preparation.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::array;
use crate::folder::BadFile;
use crate::shards::ALIGN;
use crate::shards::index::bytes;
use crate::shards::record::{ArrayLine, ClipLine, Dtype, Line};

/// The progress of a [`prepare`](crate::prepare).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The number of clips that are done, those of earlier runs included.
    pub done: usize,
    /// The total number of clips.
    pub clips: usize,
    /// The number of clips that could not be prepared.
    pub bad: usize,
    /// The number of bytes written.
    pub bytes: u64,
}

/// The result of [`prepare`](crate::prepare).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prepared {
    /// The folder of shards.
    pub out: PathBuf,
    /// The number of clips in it.
    pub clips: usize,
    /// The number of frames in all of them.
    pub frames: u64,
    /// The size of all shards in bytes.
    pub bytes: u64,
    /// The number of shards.
    pub shards: usize,
    /// The number of clips that this run prepared.
    pub new: usize,
    /// The number of clips that earlier runs had prepared.
    pub kept: usize,
    /// The bytes in the shards that belong to clips which were removed or changed since.
    pub unused: u64,
    /// Whether everything was up to date, so that nothing was written.
    pub unchanged: bool,
    /// Whether it was stopped; the next run continues.
    pub stopped: bool,
    /// How the numbers of arrays were stored, grouped by original and stored dtype.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arrays: Vec<StoredArrays>,
    /// The files that could not be prepared.
    pub bad_files: Vec<BadFile>,
    /// The number of files of each kind that is not read, by file extension.
    pub other_files: BTreeMap<String, usize>,
}

/// How arrays of one dtype are stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredArrays {
    /// The original dtype.
    pub from: array::Dtype,
    /// The stored dtype.
    pub to: Dtype,
    /// The number of clips.
    pub clips: usize,
    /// The number of their values.
    pub values: u64,
    /// How many are stored as a number other than the nearest f32, which is how any array is read.
    pub rounded: u64,
    /// The largest relative deviation.
    pub furthest: f64,
}

impl StoredArrays {
    /// Whether they were already rounded to f32 when they were read, as in training on the arrays
    /// themselves.
    pub fn is_wider(&self) -> bool {
        use array::Dtype::{F64, I32, I64, U32, U64};
        matches!(self.from, U32 | I32 | U64 | I64 | F64)
    }
}

impl Prepared {
    /// Adds up the counts from the lines.
    pub(super) fn count(&mut self, lines: &[Line]) {
        let (mut used, mut arrays) = (0, BTreeMap::new());
        for line in lines {
            let Line::Clip(clip) = line else { continue };
            self.clips += 1;
            self.frames += clip.shape[0] as u64;
            used += bytes(clip).unwrap_or(0).next_multiple_of(ALIGN);
            if let Some(array) = &clip.array {
                add(&mut arrays, clip, array);
            }
        }
        // the last clip of a shard is not padded
        let slack = self.shards as u64 * ALIGN;
        let unused = self.bytes.saturating_sub(used);
        self.unused = if unused > slack { unused } else { 0 };
        self.arrays = arrays.into_values().collect();
    }
}

fn add(
    arrays: &mut BTreeMap<(array::Dtype, usize), StoredArrays>,
    clip: &ClipLine,
    array: &ArrayLine,
) {
    let (from, to) = (array.dtype, clip.dtype);
    let new = StoredArrays { from, to, clips: 0, values: 0, rounded: 0, furthest: 0.0 };
    let stored = arrays.entry((from, to.bytes())).or_insert(new);
    stored.clips += 1;
    stored.values += clip.shape.iter().product::<usize>() as u64;
    stored.rounded += array.rounded;
    let furthest = array.furthest.as_ref().and_then(|share| share.parse().ok());
    stored.furthest = stored.furthest.max(furthest.unwrap_or(0.0));
}
