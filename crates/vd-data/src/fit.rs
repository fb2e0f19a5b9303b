//! Resizes frames to the requested size, keeping their aspect ratio.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use crate::clip::check_shape;
use crate::rows::window;
use crate::{Clip, Error, Result};

/// Scales a clip so that it just covers `size`, then crops it at `place`.
///
/// The scaling is antialiased and bilinear; if only cropping is needed, pixels keep their exact
/// values.
///
/// # Shapes
/// f h w c -> f `size[0]` `size[1]` c
/// # Range
/// `place`: down and right, [0, 1]; 0 keeps the top or left part, 0.5 the middle. It has an effect
/// on at most one of the two axes.
/// # Errors
/// When the clip is not valid, `size` contains a 0, or the scaled clip would exceed 2 GiB.
/// When the clip is not valid, `size` holds a 0, or the scaled clip would exceed 2 GiB.
pub fn fit(clip: &Clip, size: [usize; 2], place: [f64; 2]) -> Result<Clip> {
    clip.check()?;
    check_shape(clip.f, size, clip.c)?;
    let covering = cover([clip.h, clip.w], size);
    let scaled;
    check_shape(clip.f, covering, clip.c)?;
    let clip = if covering == [clip.h, clip.w] {
        clip
    } else {
        scaled = resize(clip, covering)?;
        &scaled
    };
    crop(clip, size, place)
}

/// Like [`fit`]; a clip that already has that size is not copied.
pub(crate) fn fit_owned(clip: Clip, size: [usize; 2], place: [f64; 2]) -> Result<Clip> {
    if [clip.h, clip.w] == size { Ok(clip) } else { fit(&clip, size, place) }
}

/// The smallest size with the proportions of `from` that covers `size` on both axes, rounded to
/// whole pixels.
pub(crate) fn cover(from: [usize; 2], size: [usize; 2]) -> [usize; 2] {
    let scales = [0, 1].map(|axis| size[axis] as f64 / from[axis] as f64);
    let scale = scales[0].max(scales[1]);
    [0, 1].map(|axis| ((from[axis] as f64 * scale).round() as usize).max(size[axis]))
}

/// Antialiased bilinear resize of every frame, within 1/255 of Pillow's.
///
/// libtorch's resize is not used: it would start its own thread pool in every loading thread, and
/// slow the training down.
fn resize(clip: &Clip, [h, w]: [usize; 2]) -> Result<Clip> {
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    let pixel = if clip.c == 1 { PixelType::U8 } else { PixelType::U8x3 };
    let mut resizer = Resizer::new();
    let mut bytes = vec![0; clip.f * h * w * clip.c];
    for (index, out) in bytes.chunks_exact_mut(h * w * clip.c).enumerate() {
        let from = ImageRef::new(clip.w as u32, clip.h as u32, clip.frame(index), pixel)
            .map_err(|e| unfit(clip, [h, w], e))?;
        let mut to = Image::from_slice_u8(w as u32, h as u32, out, pixel)
            .map_err(|e| unfit(clip, [h, w], e))?;
        resizer.resize(&from, &mut to, &options).map_err(|e| unfit(clip, [h, w], e))?;
    }
    Clip::new(bytes, [clip.f, h, w, clip.c], clip.fps)
}

fn unfit(clip: &Clip, [h, w]: [usize; 2], error: impl std::fmt::Display) -> Error {
    Error::clip(
        "frames that can be resized",
        format!("{} x {} to {h} x {w}: {error}", clip.h, clip.w),
    )
}

/// Crops a window of `size` from every frame.
fn crop(clip: &Clip, [h, w]: [usize; 2], place: [f64; 2]) -> Result<Clip> {
    if (h, w) == (clip.h, clip.w) {
        return Ok(clip.clone());
    }
    let top = offset(clip.h - h, place[0]);
    let left = offset(clip.w - w, place[1]);
    let frames = window(&clip.frames, [clip.h, clip.w, clip.c], [top, left], [h, w]);
    Clip::new(frames, [clip.f, h, w, clip.c], clip.fps)
}

/// The start of a window that leaves `spare` pixels over: each of the spare + 1 positions has an
/// equal share of [0, 1].
pub(crate) fn offset(spare: usize, place: f64) -> usize {
    ((spare + 1) as f64 * place.clamp(0.0, 1.0)) as usize - usize::from(place >= 1.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};
    use proptest::prelude::*;

    fn noise(shape: [usize; 4], seed: u64) -> Clip {
        let mut stream = Stream::new(Purpose::Sample, seed, 0, 0);
        let bytes = (0..shape.iter().product()).map(|_| stream.below(256) as u8).collect();
        Clip::new(bytes, shape, 8.0).unwrap()
    }

    proptest! {
        #[test]
        fn the_cover_is_tight_and_keeps_proportions(
            from in [1usize..500, 1usize..500], size in [1usize..200, 1usize..200],
        ) {
            let found = cover(from, size);
            prop_assert!(found[0] >= size[0] && found[1] >= size[1]);
            prop_assert!(found[0] == size[0] || found[1] == size[1]);
            // each side is within half a pixel of the exact multiple
            let scale = (size[0] as f64 / from[0] as f64).max(size[1] as f64 / from[1] as f64);
            for axis in 0..2 {
                prop_assert!((found[axis] as f64 - from[axis] as f64 * scale).abs() <= 0.5 + 1e-9);
            }
        }

        #[test]
        fn a_window_stays_inside(spare in 0usize..50, place in 0.0f64..=1.0) {
            prop_assert!(offset(spare, place) <= spare);
        }
    }

    #[test]
    fn the_middle_is_the_middle() {
        assert_eq!((offset(0, 0.5), offset(2, 0.5), offset(4, 0.5)), (0, 1, 2));
        assert_eq!((offset(4, 0.0), offset(4, 1.0)), (0, 4));
    }

    #[test]
    fn a_clip_of_the_right_size_keeps_its_bytes() {
        for c in [1, 3] {
            let clip = noise([2, 7, 5, c], 3);
            assert_eq!(fit(&clip, [7, 5], [0.3, 0.9]).unwrap(), clip);
        }
    }

    #[test]
    fn a_crop_without_scaling_keeps_pixels() {
        let clip = noise([2, 6, 9, 3], 4);
        let right = fit(&clip, [6, 4], [0.0, 1.0]).unwrap();
        for index in 0..2 {
            for y in 0..6 {
                assert_eq!(
                    right.frame(index)[y * 12..(y + 1) * 12],
                    clip.frame(index)[(y * 9 + 5) * 3..(y + 1) * 27],
                );
            }
        }
    }

    #[test]
    fn shrinking_averages_instead_of_dropping_pixels() {
        // columns of black and white alternate: without antialiasing a shrunk copy is a moire
        // pattern
        let bytes = (0..64 * 64).map(|i| if i % 2 == 0 { 0 } else { 255 }).collect();
        let clip = Clip::new(bytes, [1, 64, 64, 1], 8.0).unwrap();
        let small = fit(&clip, [8, 8], [0.5; 2]).unwrap();
        assert!(small.frames.iter().all(|&v| v.abs_diff(127) <= 8), "{:?}", small.frames);
    }
}
