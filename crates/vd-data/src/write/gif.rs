//! Writes clips as animated GIF.

use std::borrow::Cow;
use std::path::Path;

use ::gif::{DisposalMethod, Encoder, EncodingError, Frame, Repeat};

use super::palette::{Indexed, index};
use super::write_file;
use crate::{Clip, Error, Result};

/// The shortest delay that browsers respect, in 1/100 s.
const SHORTEST: u64 = 2;

/// The rate at which a GIF of `fps` frames per second is shown.
///
/// # Range
/// From 100/65535 to 50: frames last from 2/100 s, below which players slow them down, to 65535/100
/// s, the maximum of the format.
pub fn gif_fps(fps: f64) -> f64 {
    fps.clamp(100.0 / f64::from(u16::MAX), 100.0 / SHORTEST as f64)
}

/// Writes a clip as a GIF that loops for ever, with one palette for all frames.
///
/// The format counts delays in 1/100 s: if the rate does not divide 100, delays vary by one, so
/// that no frame is off by more than half of that. Rates outside the format's range become those of
/// [`gif_fps`].
///
/// # Errors
/// When a side exceeds 65535, or the file cannot be written.
pub fn write_gif(path: &Path, clip: &Clip) -> Result<()> {
    clip.check()?;
    let sides = check_sides(clip)?;
    let bytes = encode(&[index(clip)?], sides, &delays(clip.f, clip.fps))
        .map_err(|e| Error::write(path, std::io::Error::other(e)))?;
    write_file(path, &bytes)
}

/// Height and width in the type that the format uses.
pub(super) fn check_sides(clip: &Clip) -> Result<(u16, u16)> {
    let side = |n: usize| {
        u16::try_from(n).map_err(|_| Error::clip("sides of at most 65535", format!("{n}")))
    };
    Ok((side(clip.h)?, side(clip.w)?))
}

/// Encodes parts of one or more frames each; parts whose palette differs from the first one's store
/// their own.
pub(super) fn encode(
    parts: &[Indexed],
    (h, w): (u16, u16),
    delays: &[u16],
) -> std::result::Result<Vec<u8>, EncodingError> {
    let shared = parts.first().map(|part| part.palette.concat()).unwrap_or_default();
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, w, h, &shared)?;
    encoder.set_repeat(Repeat::Infinite)?;
    let pixels = usize::from(h) * usize::from(w);
    let frames = parts.iter().flat_map(|part| {
        let palette = part.palette.concat();
        let own = (palette != shared).then_some(palette);
        part.pixels.chunks_exact(pixels).map(move |frame| (frame, own.clone()))
    });
    for ((frame, palette), &delay) in frames.zip(delays) {
        encoder.write_frame(&Frame {
            width: w,
            height: h,
            delay,
            dispose: DisposalMethod::Keep,
            palette,
            buffer: Cow::Borrowed(frame),
            ..Frame::default()
        })?;
    }
    drop(encoder);
    Ok(bytes)
}

/// Delays in 1/100 s that follow the rate as closely as whole numbers can.
pub(super) fn delays(f: usize, fps: f64) -> Vec<u16> {
    let at = |frame: usize| (100.0 * frame as f64 / fps).round() as u64;
    (0..f)
        .map(|frame| (at(frame + 1) - at(frame)).clamp(SHORTEST, u64::from(u16::MAX)) as u16)
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_rate_that_cannot_be_held_is_told_as_what_it_becomes(f in 1usize..200, fps in 1e-4f64..1000.0) {
            let (asked, held) = (delays(f, fps), delays(f, gif_fps(fps)));
            prop_assert_eq!(asked, held);
        }

        #[test]
        fn delays_add_up_to_the_length_of_the_clip(f in 1usize..200, fps in 1.0f64..50.0) {
            let total: u64 = delays(f, fps).into_iter().map(u64::from).sum();
            prop_assert!((total as f64 - 100.0 * f as f64 / fps).abs() <= 0.5);
        }
    }

    #[test]
    fn extreme_rates_stay_writable() {
        assert_eq!(delays(3, 1000.0), [2; 3]);
        assert_eq!(delays(2, 1e-6), [u16::MAX; 2]);
        assert_eq!(delays(3, 30.0), [3, 4, 3]);
    }
}
