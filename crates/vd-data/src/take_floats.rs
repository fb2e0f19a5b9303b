//! One training sample of numbers.

use crate::config::DataConfig;
use crate::decode::Media;
use crate::fit_floats::fit_floats;
use crate::random::Stream;
use crate::take::{Drawn, Taken, draw, odd, padding};
use crate::{Error, FloatClip, Result};

/// The clip that was read, how many of its frames are real, and which ones they are.
pub(crate) type TakenFloats = (FloatClip, usize, Taken);

/// Takes a sample of numbers in their own unit, with the draws of [`take`](crate::take::take);
/// `None` also if the part that was drawn has no present value.
pub(crate) fn take_floats(
    media: &Media,
    config: &DataConfig,
    stream: &mut Stream,
) -> Result<Option<TakenFloats>> {
    let Some(Drawn { wanted, taken, fps, place, flip }) = draw(media, config, stream)? else {
        return Ok(None);
    };
    let clip = read(media, config, Some(&wanted), fps)?;
    if !clip.valid().any(|valid| valid) {
        let frames = format!("frames {} to {}", taken.start, wanted.last().unwrap_or(&0));
        return Err(Error::damaged(
            media.path(),
            "a value that is not missing",
            format!("none in {frames}"),
        ));
    }
    let size = [clip.h, clip.w];
    let mut clip =
        fit_floats(&clip, config.size, place).map_err(|error| odd(media, size, config, error))?;
    if !clip.valid().any(|valid| valid) {
        return Ok(None);
    }
    if flip {
        clip.flip();
    }
    let kept = clip.f;
    if let Some(indices) = padding(kept, config.frames) {
        clip = clip.pick(&indices);
    }
    Ok(Some((clip, kept, taken)))
}

/// Reads frames as numbers; the numbers that mark missing values become missing.
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
