//! The options of a preparation.

use std::path::PathBuf;

use crate::array::ArrayOptions;
use crate::captions::Captions;
use crate::config::MAX_FRAMES;
use crate::decode::MAX_SIDE;
use crate::shards::name::Name;
use crate::shards::record::{Dtype, Settings};
use crate::{Error, Result};

/// The smallest permitted shard size.
const LEAST_SHARD: u64 = 1 << 20;

/// The options of [`crate::prepare`].
#[derive(Debug, Clone, PartialEq)]
pub struct Prepare {
    /// The folder of videos or arrays.
    pub source: PathBuf,
    /// Where their captions come from.
    pub captions: Captions,
    /// The folder of shards: new, empty, or one that was prepared with the same settings before.
    pub out: PathBuf,
    /// Scales frames so that they just cover this height and width, and keeps the centre; `None`
    /// leaves them unchanged.
    pub size: Option<[usize; 2]>,
    /// Drops frames so that this many per second remain; a slower video is left unchanged.
    pub fps: Option<f64>,
    /// Keeps every `stride`-th frame.
    pub stride: usize,
    /// Keeps at most this many frames, from the start.
    pub max_frames: Option<usize>,
    /// 1 (grey) or 3 (red, green, blue); arrays keep their own number.
    pub channels: usize,
    /// How numbers are stored; `None` stores bytes as bytes and other numbers as f32.
    pub dtype: Option<Dtype>,
    /// How arrays are read.
    pub arrays: ArrayOptions,
    /// The number that marks missing values in arrays; it becomes a missing value before scaling or
    /// rounding.
    pub invalid: Option<f64>,
    /// The maximum size of a shard, unless a single clip is larger.
    pub shard_bytes: u64,
    /// Threads that decode; the bytes do not depend on it. Up to twice this many clips are in
    /// memory at once.
    pub workers: usize,
    /// Stops when more files than this cannot be prepared; `None` means no limit.
    pub max_bad: Option<usize>,
}

impl Prepare {
    /// All frames unchanged, pictures in colour, in shards of 1 GiB.
    pub fn new(source: impl Into<PathBuf>, out: impl Into<PathBuf>) -> Self {
        Self {
            source: source.into(),
            captions: Captions::Beside,
            out: out.into(),
            size: None,
            fps: None,
            stride: 1,
            max_frames: None,
            channels: 3,
            dtype: None,
            arrays: ArrayOptions::default(),
            invalid: None,
            shard_bytes: 1 << 30,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            max_bad: None,
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        const MAX_WORKERS: usize = 256;
        let side = 1..=MAX_SIDE as usize;
        if self.size.is_some_and(|size| !size.iter().all(|n| side.contains(n))) {
            let expected = format!("height and width in pixels, each 1 to {MAX_SIDE}");
            return Err(Error::config("size", expected, format!("{:?}", self.size)));
        }
        if let Some(fps) = self.fps.filter(|fps| !(fps.is_finite() && *fps > 0.0)) {
            return Err(Error::config("fps", "frames per second, above 0", fps));
        }
        if !(1..=MAX_FRAMES as usize).contains(&self.stride) {
            return Err(Error::config("stride", format!("1 to {MAX_FRAMES}"), self.stride));
        }
        if self.fps.is_some() && self.stride != 1 {
            return Err(Error::config("stride", "1 if fps is given", self.stride));
        }
        if self.max_frames == Some(0) {
            return Err(Error::config("max_frames", "at least 1", 0));
        }
        if self.channels != 1 && self.channels != 3 {
            return Err(Error::config("channels", "1 or 3", self.channels));
        }
        if self.invalid.is_some_and(f64::is_nan) {
            return Err(Error::config("invalid", "a number; NaN always counts as missing", "NaN"));
        }
        if self.shard_bytes < LEAST_SHARD {
            let expected = format!("at least {LEAST_SHARD} bytes");
            return Err(Error::config("shard_bytes", expected, self.shard_bytes));
        }
        if !(1..=MAX_WORKERS).contains(&self.workers) {
            return Err(Error::config("workers", format!("1 to {MAX_WORKERS}"), self.workers));
        }
        Ok(())
    }

    pub(super) fn settings(&self) -> Result<Settings> {
        let source = self.source.canonicalize().map_err(|e| Error::read(&self.source, e))?;
        Ok(Settings {
            source: Name::of(&source),
            channels: self.channels,
            size: self.size,
            fps: self.fps.map(|fps| fps.to_string()),
            stride: self.stride,
            max_frames: self.max_frames,
            shard_bytes: self.shard_bytes,
            dtype: self.dtype,
            axes: self.arrays.axes.clone(),
            member: self.arrays.member.clone(),
            invalid: self.invalid.map(|invalid| invalid.to_string()),
        })
    }
}
