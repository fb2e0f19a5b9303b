//! What a preparation says of itself.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::array;
use crate::folder::BadFile;
use crate::shards::ALIGN;
use crate::shards::index::bytes;
use crate::shards::record::{ArrayLine, ClipLine, Dtype, Line};

/// How far a [`prepare`](crate::prepare) is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Clips that are behind it, those of earlier runs included.
    pub done: usize,
    /// Clips in all.
    pub clips: usize,
    /// How many of them could not be prepared.
    pub bad: usize,
    /// Bytes that were written.
    pub bytes: u64,
}

/// What [`prepare`](crate::prepare) did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prepared {
    /// The folder of shards.
    pub out: PathBuf,
    /// Clips in it.
    pub clips: usize,
    /// Frames of all of them.
    pub frames: u64,
    /// Bytes of all shards.
    pub bytes: u64,
    /// How many shards there are.
    pub shards: usize,
    /// Clips that this run prepared.
    pub new: usize,
    /// Clips that earlier runs had prepared.
    pub kept: usize,
    /// Bytes of the shards that belong to clips which have gone or changed since.
    pub unused: u64,
    /// Whether all was there already, so that nothing was written.
    pub unchanged: bool,
    /// Whether it was stopped; the next run goes on.
    pub stopped: bool,
    /// What became of the numbers of arrays, those of one type that are stored alike together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arrays: Vec<StoredArrays>,
    /// What could not be prepared.
    pub bad_files: Vec<BadFile>,
    /// How many files there are of kinds that are not read, by the ending of their names.
    pub other_files: BTreeMap<String, usize>,
}

/// How arrays of one type are stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredArrays {
    /// What their numbers were.
    pub from: array::Dtype,
    /// What they are now.
    pub to: Dtype,
    /// How many clips there are of them.
    pub clips: usize,
    /// All their numbers.
    pub values: u64,
    /// How many are stored as another number than the nearest f32, which is what is read of any array.
    pub rounded: u64,
    /// How far that is at most, as a share of the number.
    pub furthest: f64,
}

impl StoredArrays {
    /// Whether they were rounded to f32 already when they were read, as they are for training on the arrays themselves.
    pub fn is_wider(&self) -> bool {
        use array::Dtype::{F64, I32, I64, U32, U64};
        matches!(self.from, U32 | I32 | U64 | I64 | F64)
    }
}

impl Prepared {
    /// Fills in what the lines tell.
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
        // the last clip of a shard is not filled up
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
