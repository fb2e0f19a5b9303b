//! Encodes one clip for storage.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::UNIX_EPOCH;

use super::Prepare;
use super::numbers::Encoder;
use crate::array;
use crate::clip::check_shape;
use crate::decode::{Media, Numbers, Probe};
use crate::fit::fit;
use crate::fit_floats::fit_floats;
use crate::shards::record::{ArrayLine, Dtype, Signature};
use crate::{Error, Result};

/// How many bytes of frames are read at once.
const PART: usize = 256 << 20;

/// The signature that reveals whether a video has changed.
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

/// A clip as stored.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) bytes: Vec<u8>,
    /// f h w c
    pub(super) shape: [usize; 4],
    pub(super) dtype: Dtype,
    pub(super) fps: f64,
    /// Its origin, for an array.
    pub(super) array: Option<ArrayLine>,
}

/// Reads a clip part by part, converting each part to the requested size and dtype; a decoder that
/// panics on a damaged file makes it a bad file.
pub(super) fn encode(media: &Media, config: &Prepare) -> Result<Encoded> {
    catch_unwind(AssertUnwindSafe(|| encode_parts(media, config))).unwrap_or_else(|_| {
        let found = "one that makes the decoder panic";
        Err(Error::damaged(media.path(), "a video that can be decoded", found))
    })
}

/// How the numbers of a clip are read and stored.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// As numbers in any unit, not as pixels.
    floats: bool,
    dtype: Dtype,
    channels: usize,
}

/// By default, pixels, and arrays that training treats as pixels, are stored as bytes. Other arrays
/// are stored as f32, as training reads them, unless they are bytes that are not scaled.
fn way(media: &Media, config: &Prepare) -> Way {
    let Some(Numbers { dtype, channels }) = media.numbers() else {
        let dtype = config.dtype.unwrap_or(Dtype::U8);
        return Way { floats: dtype != Dtype::U8, dtype, channels: config.channels };
    };
    let bytes = dtype == array::Dtype::U8 && config.invalid.is_none();
    let pixels = bytes && matches!(channels, 1 | 3) && config.dtype.is_none_or(|d| d == Dtype::U8);
    let kept = pixels || (bytes && config.size.is_none());
    let dtype = config.dtype.unwrap_or(if kept { Dtype::U8 } else { Dtype::F32 });
    Way { floats: !pixels, dtype, channels }
}

fn encode_parts(media: &Media, config: &Prepare) -> Result<Encoded> {
    let probe = media.probe()?;
    let way = way(media, config);
    let Way { dtype, channels, .. } = way;
    let (wanted, fps) = frames_of(&probe, config);
    let too_large = |h: usize, w: usize| Error::TooLarge {
        path: media.path().to_path_buf(),
        found: format!("{} frames of {h} x {w}", wanted.len()),
        limit: "2 GiB per clip; take fewer frames (max_frames) or smaller ones (size)".to_owned(),
    };
    let [h, w] = config.size.unwrap_or([probe.h, probe.w]);
    check_shape(wanted.len(), [h, w], channels * dtype.bytes()).map_err(|_| too_large(h, w))?;
    let number = if way.floats { size_of::<f32>() } else { 1 };
    let frame = [probe.w, channels, number].into_iter().fold(probe.h, usize::saturating_mul).max(1);
    let mut encoder = Encoder::new(dtype);
    let mut shape = None;
    for part in wanted.chunks((PART / frame).max(1)) {
        let from = match way.floats {
            true => floats(media, (config, channels), (part, fps), &mut encoder),
            false => pixels(media, (config, channels), (part, fps), &mut encoder),
        };
        let from = from.map_err(|error| match error {
            Error::Clip { .. } => too_large(h, w),
            other => other,
        })?;
        if *shape.get_or_insert(from) != from {
            let expected = "frames of one size";
            return Err(Error::damaged(media.path(), expected, "frames of different sizes"));
        }
    }
    let [h, w] = shape.unwrap_or([h, w]);
    let array = array_line(media, &encoder);
    let shape = [wanted.len(), h, w, channels];
    Ok(Encoded { bytes: encoder.bytes, shape, dtype, fps, array })
}

/// Converts frames to pixels of the requested size, and returns that size.
fn pixels(
    media: &Media,
    (config, channels): (&Prepare, usize),
    (wanted, fps): (&[usize], f64),
    encoder: &mut Encoder,
) -> Result<[usize; 2]> {
    let mut clip = media.decode_frames(channels, wanted, fps)?;
    if let Some(size) = config.size.filter(|size| *size != [clip.h, clip.w]) {
        clip = fit(&clip, size, [0.5; 2])?;
    }
    match encoder.bytes.is_empty() {
        true => encoder.bytes = clip.frames,
        false => encoder.bytes.extend_from_slice(&clip.frames),
    }
    Ok([clip.h, clip.w])
}

/// Converts frames to numbers of the requested size, and returns that size.
fn floats(
    media: &Media,
    (config, channels): (&Prepare, usize),
    (wanted, fps): (&[usize], f64),
    encoder: &mut Encoder,
) -> Result<[usize; 2]> {
    let mut clip = media.decode_floats(channels, Some(wanted), fps)?;
    if let Some(invalid) = config.invalid {
        clip.forget(invalid);
    }
    if let Some(size) = config.size.filter(|size| *size != [clip.h, clip.w]) {
        clip = fit_floats(&clip, size, [0.5; 2])?;
    }
    encoder.push(media.path(), &clip.values)?;
    Ok([clip.h, clip.w])
}

/// The index entry about a clip's array.
fn array_line(media: &Media, encoder: &Encoder) -> Option<ArrayLine> {
    let Media::Array(array) = media else { return None };
    Some(ArrayLine {
        member: array.member().map(str::to_owned),
        clip: array.clip(),
        dtype: array.dtype(),
        rounded: encoder.rounded,
        furthest: (encoder.rounded > 0).then(|| encoder.furthest.to_string()),
    })
}

/// Which frames of a video are kept, and the resulting rate.
fn frames_of(probe: &Probe, config: &Prepare) -> (Vec<usize>, f64) {
    let most = config.max_frames.unwrap_or(usize::MAX);
    match config.fps.filter(|fps| *fps < probe.fps) {
        Some(fps) => {
            // the frame shown at each time; a rounding error must not select the one before
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
        // no frame is invented
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
