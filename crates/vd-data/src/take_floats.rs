//! One training sample of numbers.

use crate::config::{Crop, DataConfig};
use crate::decode::Media;
use crate::fit_floats::fit_floats;
use crate::random::Stream;
use crate::take::{Taken, frames_of};
use crate::{Error, FloatClip, Result};

/// A clip that was taken, how many of its frames are real, and which they are.
pub(crate) type TakenFloats = (FloatClip, usize, Taken);

/// Takes a sample of numbers in their own unit, by the draws of [`take`](crate::take::take); `None` also
/// where nothing is there in the part that was drawn.
pub(crate) fn take_floats(
    media: &Media,
    config: &DataConfig,
    stream: &mut Stream,
) -> Result<Option<TakenFloats>> {
    let probe = media.probe()?;
    let (start, place, flip) = (stream.unit(), [stream.unit(), stream.unit()], stream.chance(0.5));
    let Some(wanted) = frames_of(probe.f, config, start) else {
        return Ok(None);
    };
    let taken =
        Taken { start: wanted.first().copied().unwrap_or(0), stride: config.stride, of: probe.f };
    let fps = probe.fps / config.stride as f64;
    let clip = read(media, config, Some(&wanted), fps)?;
    if !clip.valid().any(|valid| valid) {
        let frames = format!("frames {} to {}", taken.start, wanted.last().unwrap_or(&0));
        return Err(Error::damaged(
            media.path(),
            "a value that is not missing",
            format!("none in {frames}"),
        ));
    }
    let place = match config.crop {
        Crop::Centre => [0.5; 2],
        Crop::Random => place,
    };
    let found = format!("frames of {} x {}", clip.h, clip.w);
    let mut clip = fit_floats(&clip, config.size, place).map_err(|e| match e {
        // one odd file is no reason to stop
        Error::Clip { expected, .. } => {
            let limit = format!("{expected} once they cover {:?}", config.size);
            Error::TooLarge { path: media.path().to_path_buf(), found, limit }
        }
        other => other,
    })?;
    if !clip.valid().any(|valid| valid) {
        return Ok(None);
    }
    if config.flip && flip {
        clip.flip();
    }
    let kept = clip.f;
    if kept < config.frames {
        let indices: Vec<usize> = (0..config.frames).map(|i| i.min(kept - 1)).collect();
        clip = clip.pick(&indices);
    }
    Ok(Some((clip, kept, taken)))
}

/// Reads frames as numbers, those that stand for none made missing.
pub(crate) fn read(
    media: &Media,
    config: &DataConfig,
    wanted: Option<&[usize]>,
    fps: f64,
) -> Result<FloatClip> {
    let mut clip = media.decode_floats(config.channels, wanted, fps)?;
    if let Some(invalid) = config.invalid {
        clip.forget(invalid);
    }
    Ok(clip)
}
