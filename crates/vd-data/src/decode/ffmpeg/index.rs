//! Which frames a film has, and when they are shown, from the times of its packets.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::Container;
use super::listing::{Listing, Stream};
use super::road::Road;
use crate::clip::UNSTATED_FPS;
use crate::decode::check_size;
use crate::{Error, Result};

/// Times that differ by less are considered equal: they are reported in microseconds.
pub(super) const APART: f64 = 2e-6;
/// The maximum error of a length, in seconds: WebM and MKV count in 1/1000 s.
const ROUNDED: f64 = 2e-3;
/// Frames whose times are kept for all files together, about 150 MB.
const KEPT_FRAMES: usize = 16 << 20;

/// What is known of a film before any pixel is decoded.
#[derive(Debug)]
pub(super) struct Index {
    /// The number of frames shown.
    pub(super) f: usize,
    /// Height and width as shown.
    pub(super) h: u32,
    pub(super) w: u32,
    /// Frames divided by duration.
    pub(super) fps: f64,
    /// When each frame is shown, in seconds, ascending; empty if the file does not say.
    pub(super) times: Vec<f64>,
    /// The frames at which decoding can start.
    keys: Vec<usize>,
}

/// Where decoding starts, and how many frames are then skipped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Start {
    /// A time between two frames, in seconds; `None` is the beginning of the file.
    pub(super) at: Option<f64>,
    pub(super) skip: usize,
}

impl Index {
    /// The nearest position from which frame `first` can be decoded.
    ///
    /// Frames that are shown before a key frame but stored after it depend on earlier data. So the
    /// seek goes not to the frame itself but to the key frame shown before it.
    pub(super) fn start(&self, first: usize) -> Start {
        let before = self.keys.partition_point(|key| *key <= first);
        let apart = |key: &&usize| **key > 0 && self.times[**key] - self.times[**key - 1] >= APART;
        match self.keys[..before].iter().rev().find(apart) {
            Some(&key) => {
                // nearer to it than to the frame before, even if a clock of one tick per frame
                // (AVI) rounds
                let at = self.times[key] - (self.times[key] - self.times[key - 1]) / 4.0;
                Start { at: Some(at), skip: first - key }
            }
            None => Start { at: None, skip: first },
        }
    }

    /// Sorts the packets into the order in which they are shown.
    fn new(path: &Path, listing: Listing) -> Result<Self> {
        let Listing { mut packets, stream, counted, .. } = listing;
        let stream = stream.ok_or_else(|| no_stream(path))?;
        let (h, w) = stream.shown();
        check_size(path, h, w)?;
        packets.sort_by(|a, b| a.time.total_cmp(&b.time));
        let f = counted.unwrap_or(packets.len());
        if f == 0 {
            return Err(Error::damaged(path, "at least one frame", "none"));
        }
        let fps = match counted {
            None => rate(&packets, &stream),
            Some(_) => stream.rate.unwrap_or(UNSTATED_FPS),
        };
        let (mut times, mut keys) = (Vec::new(), Vec::new());
        if counted.is_none() {
            times = packets.iter().map(|packet| packet.time).collect();
            keys = (0..f).filter(|k| packets[*k].key).collect();
        }
        Ok(Self { f, h, w, fps, times, keys })
    }
}

/// Frames divided by the time for which they are shown.
fn rate(packets: &[super::listing::Packet], stream: &Stream) -> f64 {
    let (Some(first), Some(last)) = (packets.first(), packets.last()) else { return UNSTATED_FPS };
    let gaps = (packets.len() - 1) as f64;
    let shown = last.time - first.time;
    let stated = stream.rate.unwrap_or(UNSTATED_FPS);
    let mean = if gaps > 0.0 && shown > 0.0 { shown / gaps } else { 1.0 / stated };
    let length = shown + last.duration.unwrap_or(mean);
    let fps = packets.len() as f64 / length;
    // Some containers round times, but not the rate.
    let rounded = (packets.len() as f64 / stated - length).abs() <= ROUNDED;
    if rounded || !(fps.is_finite() && fps > 0.0) { stated } else { fps }
}

pub(super) fn no_stream(path: &Path) -> Error {
    Error::damaged(path, "a video stream", "none, as in an audio-only file")
}

/// Identifies a file and its state when it was read.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    path: PathBuf,
    len: u64,
    changed: Option<SystemTime>,
}

/// The indices made up to now, valid as long as their files do not change.
#[derive(Debug, Default)]
struct Cache {
    indices: HashMap<Key, Arc<Index>>,
    frames: usize,
}

static CACHE: Mutex<Option<Cache>> = Mutex::new(None);

/// The index of a file, made only once while the file does not change.
pub(super) fn of(path: &Path, container: Container) -> Result<Arc<Index>> {
    let about = path.metadata().map_err(|e| Error::read(path, e))?;
    let key = Key {
        path: std::path::absolute(path).map_err(|e| Error::read(path, e))?,
        len: about.len(),
        changed: about.modified().ok(),
    };
    let cache = || CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = cache().get_or_insert_default().indices.get(&key) {
        return Ok(Arc::clone(known));
    }
    let index = Arc::new(make(path, container, Road::chosen())?);
    let mut cache = cache();
    let cache = cache.get_or_insert_default();
    if cache.frames + index.f > KEPT_FRAMES {
        *cache = Cache::default();
    }
    cache.frames += index.f;
    cache.indices.insert(key, Arc::clone(&index));
    Ok(index)
}

/// Makes the index of a file in its current state.
pub(super) fn make(path: &Path, container: Container, road: Road) -> Result<Index> {
    Index::new(path, road.list(path, container)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn index(packets: &[(f64, bool)]) -> Index {
        let mut listing = Listing::default();
        for (time, key) in packets {
            let flags = if *key { "K_" } else { "__" };
            let line = format!("packet|pts_time={time:.6}|duration_time=0.040000|flags={flags}");
            listing.line(Path::new("a.mp4"), &line).unwrap();
        }
        listing
            .line(
                Path::new("a.mp4"),
                "stream|codec_type=video|width=8|height=6|avg_frame_rate=25/1",
            )
            .unwrap();
        Index::new(Path::new("a.mp4"), listing).unwrap()
    }

    #[test]
    fn decoding_begins_a_quarter_of_a_frame_before_the_key_frame_on_the_screen() {
        // in file order: the key frame at 0.4 precedes two frames that are shown earlier
        let index = index(&[
            (0.0, true),
            (0.2, false),
            (0.1, false),
            (0.4, true),
            (0.3, false),
            (0.7, false),
            (0.5, false),
        ]);
        assert_eq!((index.f, index.h, index.w), (7, 6, 8));
        for first in 0..4 {
            assert_eq!(index.start(first), Start { at: None, skip: first });
        }
        let near = |start: Start, at: f64| (start.at.unwrap() - at).abs() < 1e-9;
        assert!(near(index.start(4), 0.375) && index.start(4).skip == 0);
        assert!(near(index.start(6), 0.375) && index.start(6).skip == 2);
        assert!((index.fps - 7.0 / 0.74).abs() < 1e-9, "{}", index.fps);
    }

    #[test]
    fn a_stated_rate_that_agrees_up_to_rounding_is_the_rate() {
        let even = index(&[(0.0, true), (0.04, false), (0.079, false), (0.12, false)]);
        assert_eq!(even.fps, 25.0);
        let uneven = index(&[(0.0, true), (0.04, false), (0.16, false)]);
        assert!((uneven.fps - 15.0).abs() < 1e-9, "{}", uneven.fps);
    }

    #[test]
    fn no_seek_aims_between_frames_of_one_time() {
        let index = index(&[(0.0, true), (0.1, true), (0.1, true), (0.2, false)]);
        let start = index.start(3);
        assert!((start.at.unwrap() - 0.075).abs() < 1e-9 && start.skip == 2, "{start:?}");
    }
}
