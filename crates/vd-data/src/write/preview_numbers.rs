//! Shows numbers in any unit as a small picture.

use crate::fit_floats::fit_floats;
use crate::{Clip, FloatClip, Result};

/// The maximum number of channels that are shown side by side.
const CHANNELS: usize = 4;
/// Columns between them.
const GAP: usize = 2;

/// Numbers as pixels, no larger than `largest` per side: each channel from black, its minimum, to
/// white, its maximum. Missing values are black. One channel is shown in grey, three in colour; for
/// any other number the first four are shown side by side.
pub(super) fn numbers_as_picture(clip: &FloatClip, largest: usize) -> Result<Clip> {
    let shown;
    let side = clip.h.max(clip.w);
    let clip = if side > largest {
        let less = |n: usize| (n * largest / side).max(1);
        shown = fit_floats(clip, [less(clip.h), less(clip.w)], [0.5; 2])?;
        &shown
    } else {
        clip
    };
    let FloatClip { f, h, w, c, .. } = *clip;
    let ranges: Vec<[f32; 2]> = (0..c).map(|channel| range(clip, channel)).collect();
    let byte = |at: usize| {
        let (x, [low, high]) = (clip.values[at], ranges[at % c]);
        // if all numbers are equal they are white, to differ from missing ones
        let share = if high > low {
            (f64::from(x) - f64::from(low)) / (f64::from(high) - f64::from(low))
        } else {
            1.0
        };
        if x.is_finite() { (255.0 * share).round() as u8 } else { 0 }
    };
    if c == 1 || c == 3 {
        return Clip::new((0..clip.values.len()).map(byte).collect(), [f, h, w, c], clip.fps);
    }
    let beside = c.min(CHANNELS);
    let width = beside * (w + GAP) - GAP;
    let mut frames = vec![0; f * h * width];
    for (row, out) in frames.chunks_exact_mut(width).enumerate() {
        for channel in 0..beside {
            for column in 0..w {
                out[channel * (w + GAP) + column] = byte((row * w + column) * c + channel);
            }
        }
    }
    Clip::new(frames, [f, h, width, 1], clip.fps)
}

/// The minimum and the maximum of a channel.
fn range(clip: &FloatClip, channel: usize) -> [f32; 2] {
    let there = clip.values.iter().skip(channel).step_by(clip.c).filter(|x| x.is_finite());
    there.fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], x| [low.min(*x), high.max(*x)])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn channels_go_from_black_to_white_and_what_is_missing_is_black() {
        let values = vec![-1.0, 5.0, 0.0, 5.0, 1.0, f32::NAN, f32::INFINITY, 5.0];
        let clip = FloatClip::new(values, [1, 2, 2, 2], 10.0).unwrap();
        let shown = numbers_as_picture(&clip, 8).unwrap();
        assert_eq!((shown.h, shown.w, shown.c), (2, 6, 1));
        assert_eq!(shown.frames, [0, 128, 0, 0, 255, 255, 255, 0, 0, 0, 0, 255]);
        let colours =
            FloatClip::new(vec![0.0, 2.0, 4.0, 1.0, 3.0, 8.0], [1, 1, 2, 3], 10.0).unwrap();
        let shown = numbers_as_picture(&colours, 8).unwrap();
        assert_eq!((shown.frames, shown.c), (vec![0, 0, 0, 255, 255, 255], 3));
        let large = FloatClip::new(vec![1.0; 40 * 20 * 6], [1, 40, 20, 6], 10.0).unwrap();
        let shown = numbers_as_picture(&large, 10).unwrap();
        assert_eq!((shown.h, shown.w, shown.c), (10, 4 * 7 - 2, 1));
    }
}
