//! One video, as it is stored.

use std::time::UNIX_EPOCH;

use super::Prepare;
use crate::clip::check_shape;
use crate::decode::{Media, Probe};
use crate::fit::fit;
use crate::shards::record::Signature;
use crate::{Clip, Error, Result};

/// How many bytes of frames are decoded at once.
const PART: usize = 256 << 20;

/// What tells whether a video has changed.
pub(super) fn signature(media: &Media) -> Result<Signature> {
    let files = media.files();
    let mut found = Signature { files: files.len() as u64, bytes: 0, modified: 0 };
    for path in files {
        let about = path.metadata().map_err(|e| Error::read(path, e))?;
        let since = about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = since.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX));
        found.bytes += about.len();
        found.modified = found.modified.max(modified);
    }
    Ok(found)
}

/// Decodes a video part by part, each part at once brought to the size that is asked for; a decoder that panics on a damaged
/// file makes it a bad file.
pub(super) fn decode(media: &Media, config: &Prepare) -> Result<Clip> {
    std::panic::catch_unwind(|| decode_parts(media, config)).unwrap_or_else(|_| {
        let found = "one on which the decoder panics";
        Err(Error::damaged(media.path(), "a video that can be decoded", found))
    })
}

fn decode_parts(media: &Media, config: &Prepare) -> Result<Clip> {
    let probe = media.probe()?;
    let (wanted, fps) = frames_of(&probe, config);
    let channels = config.channels;
    let too_large = |h: usize, w: usize| Error::TooLarge {
        path: media.path().to_path_buf(),
        found: format!("{} frames of {h} x {w}", wanted.len()),
        limit: "2 GiB a clip; take fewer frames (max_frames) or smaller ones (size)".to_owned(),
    };
    let [h, w] = config.size.unwrap_or([probe.h, probe.w]);
    check_shape(wanted.len(), [h, w], channels).map_err(|_| too_large(h, w))?;
    let frame = (probe.h * probe.w * channels).max(1);
    let mut bytes = Vec::new();
    let mut shape = None;
    for part in wanted.chunks((PART / frame).max(1)) {
        let mut clip = media.decode_frames(channels, part, fps)?;
        if let Some(size) = config.size.filter(|size| *size != [clip.h, clip.w]) {
            clip = fit(&clip, size, [0.5; 2]).map_err(|_| too_large(clip.h, clip.w))?;
        }
        if *shape.get_or_insert([clip.h, clip.w]) != [clip.h, clip.w] {
            let expected = "frames of one size";
            return Err(Error::damaged(media.path(), expected, "frames of several"));
        }
        if bytes.is_empty() {
            bytes = clip.frames;
        } else {
            bytes.extend_from_slice(&clip.frames);
        }
    }
    let [h, w] = shape.unwrap_or([h, w]);
    Clip::new(bytes, [wanted.len(), h, w, channels], fps)
}

/// Which frames of a video are kept, and how many of them a second has.
fn frames_of(probe: &Probe, config: &Prepare) -> (Vec<usize>, f64) {
    let most = config.max_frames.unwrap_or(usize::MAX);
    match config.fps.filter(|fps| *fps < probe.fps) {
        Some(fps) => {
            // the frame that is seen at the time of each; a rounding error must not make it the one before
            let step = probe.fps / fps;
            let seen = (0..).map(|k: usize| (k as f64 * step + 1e-6) as usize);
            (seen.take_while(|index| *index < probe.f).take(most).collect(), fps)
        }
        None => {
            let kept = (0..probe.f).step_by(config.stride).take(most);
            (kept.collect(), probe.fps / config.stride as f64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kept(f: usize, rate: f64, change: impl Fn(&mut Prepare)) -> (Vec<usize>, f64) {
        let mut config = Prepare::new("a", "b");
        change(&mut config);
        frames_of(&Probe { f, h: 1, w: 1, fps: rate }, &config)
    }

    #[test]
    fn a_rate_keeps_the_frames_that_are_seen_at_its_times() {
        assert_eq!(kept(7, 30.0, |c| c.fps = Some(10.0)), (vec![0, 3, 6], 10.0));
        assert_eq!(kept(8, 25.0, |c| c.fps = Some(10.0)), (vec![0, 2, 5, 7], 10.0));
        // nothing is made up
        assert_eq!(kept(3, 8.0, |c| c.fps = Some(24.0)), (vec![0, 1, 2], 8.0));
        assert_eq!(kept(7, 30.0, |c| c.stride = 3), (vec![0, 3, 6], 10.0));
        assert_eq!(kept(7, 30.0, |c| c.max_frames = Some(2)).0, [0, 1]);
    }

    proptest! {
        #[test]
        fn no_frame_is_kept_twice_and_the_rate_is_right(
            f in 1usize..400, rate in 1.0f64..60.0, part in 0.02f64..0.999,
        ) {
            let (wanted, fps) = kept(f, rate, |c| c.fps = Some(rate * part));
            prop_assert!(wanted.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert_eq!(fps, rate * part);
            let (seconds, shown) = (f as f64 / rate, wanted.len() as f64 / fps);
            prop_assert!((seconds - shown).abs() <= 1.0 / fps + 1e-6);
        }
    }
}
