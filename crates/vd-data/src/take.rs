//! One training sample from one video: which frames, which crop, mirrored or not.

use std::sync::Arc;

use crate::captions::Row;
use crate::config::{Crop, DataConfig, Short};
use crate::decode::Media;
use crate::fit::fit_owned;
use crate::random::Stream;
use crate::{AnyClip, Clip, Error, Result};

/// A clip of exactly the configured shape.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// The frames; if they are not bytes, their numbers are in the range of the diffusion process.
    /// The rate is that of the file divided by the stride.
    pub clip: AnyClip,
    /// How many frames at the start are real; the rest repeat the last real one.
    pub kept: usize,
    /// The caption.
    pub caption: Option<String>,
    /// Its row in a table.
    pub row: Option<Arc<Row>>,
    /// The name of the folder that contains it, below the root of the data set.
    pub folder: Option<Arc<str>>,
    /// Which frames of the file it consists of.
    pub taken: Taken,
}

/// Which frames of a file a clip consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Taken {
    /// The first frame, from 0.
    pub start: usize,
    /// The distance from one frame to the next.
    pub stride: usize,
    /// How many frames the file has.
    pub of: usize,
}

impl Taken {
    /// The indices in the file of the clip's `n` frames; if the file ends early, its last frame is
    /// repeated.
    pub fn frames(&self, n: usize) -> Vec<usize> {
        let real: Vec<usize> = (self.start..self.of).step_by(self.stride).take(n).collect();
        let last = real.last().copied().unwrap_or(self.start);
        real.into_iter().chain(std::iter::repeat(last)).take(n).collect()
    }
}

/// The clip that was read, how many of its frames are real, and which ones they are.
pub(crate) type TakenClip = (Clip, usize, Taken);

/// Which part of a file makes up a sample, decided before any of it is decoded.
pub(crate) struct Drawn {
    pub(crate) wanted: Vec<usize>,
    pub(crate) taken: Taken,
    /// The rate of the clip.
    pub(crate) fps: f64,
    /// Which part of a frame is kept, as fractions of the pixels left over.
    pub(crate) place: [f64; 2],
    pub(crate) flip: bool,
}

/// Draws the part of a video for a sample; `None` if the video is too short and short ones are
/// skipped.
///
/// The stream is always read for start, place and flip, in this order, even if they are unused, so
/// that changing one setting does not affect the other draws.
pub(crate) fn draw(
    media: &Media,
    config: &DataConfig,
    stream: &mut Stream,
) -> Result<Option<Drawn>> {
    let probe = media.probe()?;
    let (start, place, flip) = draws(config, stream);
    let Some(wanted) = frames_of(probe.f, config, start) else {
        return Ok(None);
    };
    let taken =
        Taken { start: wanted.first().copied().unwrap_or(0), stride: config.stride, of: probe.f };
    Ok(Some(Drawn { wanted, taken, fps: probe.fps / config.stride as f64, place, flip }))
}

/// Start, place and flip, as far as the config allows them to be random.
fn draws(config: &DataConfig, stream: &mut Stream) -> (f64, [f64; 2], bool) {
    let (start, place, flip) = (stream.unit(), [stream.unit(), stream.unit()], stream.chance(0.5));
    let place = match config.crop {
        Crop::Centre => [0.5; 2],
        Crop::Random => place,
    };
    (start, place, config.flip && flip)
}

/// The frame indices that extend a clip of `kept` frames to `frames` by repeating its last one;
/// `None` if the clip is complete.
pub(crate) fn padding(kept: usize, frames: usize) -> Option<Vec<usize>> {
    (kept < frames).then(|| (0..frames).map(|i| i.min(kept - 1)).collect())
}

/// The error for frames of `h` x `w` that cannot be resized, as an error of this one file, so that
/// one odd file does not stop a run.
pub(crate) fn odd(media: &Media, [h, w]: [usize; 2], config: &DataConfig, error: Error) -> Error {
    match error {
        Error::Clip { expected, .. } => Error::TooLarge {
            path: media.path().to_path_buf(),
            found: format!("frames of {h} x {w}"),
            limit: format!("{expected} once they cover {:?}", config.size),
        },
        other => other,
    }
}

/// Takes a sample from a video, as described at [`draw`].
pub(crate) fn take(
    media: &Media,
    config: &DataConfig,
    stream: &mut Stream,
) -> Result<Option<TakenClip>> {
    let Some(drawn) = draw(media, config, stream)? else { return Ok(None) };
    let clip = media.decode_frames(config.channels, &drawn.wanted, drawn.fps)?;
    let mut clip = to_size(media, clip, config, (drawn.place, drawn.flip))?;
    let kept = clip.f;
    if let Some(indices) = padding(kept, config.frames) {
        clip = clip.pick(&indices);
    }
    Ok(Some((clip, kept, drawn.taken)))
}

/// Takes one frame of a video, all with equal probability, using as many draws as [`take`].
pub(crate) fn take_frame(
    media: &Media,
    config: &DataConfig,
    stream: &mut Stream,
) -> Result<(Clip, Taken)> {
    let probe = media.probe()?;
    let (at, place, flip) = draws(config, stream);
    let start = (probe.f as f64 * at) as usize;
    let clip = media.decode_frames(config.channels, &[start], probe.fps)?;
    let clip = to_size(media, clip, config, (place, flip))?;
    Ok((clip, Taken { start, stride: 1, of: probe.f }))
}

/// The cropped part of a clip, resized, mirrored or not.
fn to_size(
    media: &Media,
    clip: Clip,
    config: &DataConfig,
    (place, flip): ([f64; 2], bool),
) -> Result<Clip> {
    let size = [clip.h, clip.w];
    let mut clip =
        fit_owned(clip, config.size, place).map_err(|error| odd(media, size, config, error))?;
    if flip {
        clip.flip();
    }
    Ok(clip)
}

/// Which frames of a video of `f` frames are taken; `None` if it is too short and short ones are
/// skipped.
///
/// # Range
/// `start`: [0, 1); every valid first frame has an equal share of it.
fn frames_of(f: usize, config: &DataConfig, start: f64) -> Option<Vec<usize>> {
    let span = config.span();
    let first = if f >= span {
        (((f - span + 1) as f64) * start) as usize
    } else if config.short == Short::Skip {
        return None;
    } else {
        0
    };
    let wanted: Vec<usize> = (first..f).step_by(config.stride).take(config.frames).collect();
    Some(wanted)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_long_video_gives_evenly_spaced_frames_from_any_start(
            frames in 1usize..9, stride in 1usize..5, more in 0usize..20, start in 0.0f64..1.0,
        ) {
            let config = DataConfig { frames, stride, ..DataConfig::default() };
            let f = config.span() + more;
            let wanted = frames_of(f, &config, start).unwrap();
            prop_assert_eq!(wanted.len(), frames);
            prop_assert!(wanted.windows(2).all(|pair| pair[1] - pair[0] == stride));
            prop_assert!(wanted[0] <= more && wanted[frames - 1] < f);
            let taken = Taken { start: wanted[0], stride, of: f };
            prop_assert_eq!(taken.frames(frames), wanted);
        }

        #[test]
        fn a_short_video_gives_what_it_has_or_nothing(
            frames in 2usize..9, stride in 1usize..5, start in 0.0f64..1.0, cut in 1usize..30,
        ) {
            let config = DataConfig { frames, stride, ..DataConfig::default() };
            let f = config.span().saturating_sub(cut).max(1);
            let wanted = frames_of(f, &config, start).unwrap();
            prop_assert_eq!(wanted[0], 0);
            prop_assert_eq!(wanted.len(), f.div_ceil(stride).min(frames));
            prop_assert!(wanted.len() < frames);
            let all = Taken { start: 0, stride, of: f }.frames(frames);
            prop_assert_eq!(all.len(), frames);
            prop_assert_eq!(&all[..wanted.len()], &wanted[..]);
            prop_assert!(all[wanted.len()..].iter().all(|k| Some(k) == wanted.last()));
            let skip = DataConfig { short: Short::Skip, ..config };
            prop_assert_eq!(frames_of(f, &skip, start), None);
        }
    }

    #[test]
    fn every_start_can_be_drawn() {
        let config = DataConfig { frames: 3, stride: 2, ..DataConfig::default() };
        let starts: Vec<usize> =
            (0..4).map(|k| frames_of(8, &config, k as f64 / 4.0).unwrap()[0]).collect();
        assert_eq!(starts, [0, 1, 2, 3]);
    }
}
