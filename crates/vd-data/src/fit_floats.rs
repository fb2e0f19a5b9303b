//! Resizes frames of numbers to the requested size; missing values are left out.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::F32;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use crate::fit::{cover, offset};
use crate::floats::check_floats;
use crate::rows::window;
use crate::{Error, FloatClip, Result};

/// The fraction of a scaled value's weight that must come from present values.
const LEAST: f32 = 0.5;

/// Scales and crops numbers as [`fit`](crate::fit) does pixels.
///
/// A scaled value is the antialiased bilinear mean of the present values that it covers; it is
/// itself missing if these have less than half of the weight.
///
/// # Shapes
/// f h w c -> f `size[0]` `size[1]` c
/// # Range
/// `place`: as in [`fit`](crate::fit)
/// # Errors
/// When `size` contains a 0, or the scaled clip would exceed 2 GiB.
pub fn fit_floats(clip: &FloatClip, size: [usize; 2], place: [f64; 2]) -> Result<FloatClip> {
    check_floats(clip.f, size, clip.c)?;
    let covering = cover([clip.h, clip.w], size);
    check_floats(clip.f, covering, clip.c)?;
    let scaled;
    let clip = if covering == [clip.h, clip.w] {
        clip
    } else {
        scaled = resize(clip, covering)?;
        &scaled
    };
    let [h, w] = size;
    if size == [clip.h, clip.w] {
        return Ok(clip.clone());
    }
    let corner = [offset(clip.h - h, place[0]), offset(clip.w - w, place[1])];
    let values = window(&clip.values, [clip.h, clip.w, clip.c], corner, size);
    FloatClip::new(values, [clip.f, h, w, clip.c], clip.fps)
}

/// Resizes every channel of every frame separately, so any number of channels is supported.
fn resize(clip: &FloatClip, [h, w]: [usize; 2]) -> Result<FloatClip> {
    let mut scale = Scale::new([clip.h, clip.w], [h, w]);
    let (c, frame) = (clip.c, h * w * clip.c);
    let mut values = vec![0.0; clip.f * frame];
    for (index, out) in values.chunks_exact_mut(frame).enumerate() {
        for channel in 0..c {
            let plane = clip.frame(index).iter().skip(channel).step_by(c).copied();
            let scaled = scale.plane(plane)?;
            for (to, value) in out.iter_mut().skip(channel).step_by(c).zip(scaled) {
                *to = value;
            }
        }
    }
    FloatClip::new(values, [clip.f, h, w, c], clip.fps)
}

/// Scales planes of one size to another.
struct Scale {
    from: [usize; 2],
    to: [usize; 2],
    resizer: Resizer,
    options: ResizeOptions,
}

impl Scale {
    fn new(from: [usize; 2], to: [usize; 2]) -> Self {
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        Self { from, to, resizer: Resizer::new(), options }
    }

    fn plane(&mut self, values: impl Iterator<Item = f32>) -> Result<Vec<f32>> {
        let mut values: Vec<F32> = values.map(F32::new).collect();
        if values.iter().all(|x| x.0.is_finite()) {
            return self.run(&values);
        }
        let there: Vec<F32> =
            values.iter().map(|x| F32::new(f32::from(u8::from(x.0.is_finite())))).collect();
        for value in values.iter_mut().filter(|x| !x.0.is_finite()) {
            *value = F32::new(0.0);
        }
        let (sums, weights) = (self.run(&values)?, self.run(&there)?);
        let mean = |(sum, weight): (f32, f32)| if weight < LEAST { f32::NAN } else { sum / weight };
        Ok(sums.into_iter().zip(weights).map(mean).collect())
    }

    fn run(&mut self, values: &[F32]) -> Result<Vec<f32>> {
        let unfit = |e: &dyn std::fmt::Display| {
            let ([h, w], [to_h, to_w]) = (self.from, self.to);
            Error::clip("frames that can be resized", format!("{h} x {w} to {to_h} x {to_w}: {e}"))
        };
        let [[h, w], [to_h, to_w]] = [self.from, self.to].map(|size| size.map(|n| n as u32));
        let from = TypedImageRef::new(w, h, values).map_err(|e| unfit(&e))?;
        let mut to = TypedImage::<F32>::new(to_w, to_h);
        let resized = self.resizer.resize_typed(&from, &mut to, &self.options);
        resized.map_err(|e| unfit(&e))?;
        Ok(to.pixels().iter().map(|x| x.0).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};
    use proptest::prelude::*;

    fn noise(shape: [usize; 4], seed: u64, missing: f64) -> FloatClip {
        let mut stream = Stream::new(Purpose::Sample, seed, 0, 0);
        let mut value = || {
            let x = stream.between(200.0, 300.0) as f32;
            if stream.chance(missing) { f32::NAN } else { x }
        };
        let values = (0..shape.iter().product()).map(|_| value()).collect();
        FloatClip::new(values, shape, 8.0).unwrap()
    }

    #[test]
    fn a_clip_of_the_right_size_keeps_its_bits_and_a_crop_does() {
        let clip = noise([2, 6, 9, 5], 3, 0.2);
        assert_eq!(fit_floats(&clip, [6, 9], [0.3, 0.9]).unwrap(), clip);
        let right = fit_floats(&clip, [6, 4], [0.0, 1.0]).unwrap();
        for (y, x, c) in [(0, 0, 0), (5, 3, 4), (2, 1, 3)] {
            let at = |clip: &FloatClip, x: usize| clip.frame(1)[(y * clip.w + x) * 5 + c].to_bits();
            assert_eq!(at(&right, x), at(&clip, x + 5));
        }
    }

    proptest! {
        #[test]
        fn values_are_means_of_those_that_are_there(
            seed in any::<u64>(), h in 4usize..12, w in 4usize..12, c in 1usize..5,
        ) {
            let clip = noise([1, 2 * h, 2 * w, c], seed, 0.3);
            let small = fit_floats(&clip, [h, w], [0.5; 2]).unwrap();
            // 200 to 300, and sums of at most 16 products lose less than a few units of f32's last place
            prop_assert!(small.values.iter().all(|x| x.is_nan() || (199.999..300.001).contains(x)));
            let there = small.valid().filter(|v| *v).count();
            prop_assert!(there > small.values.len() / 2);
        }
    }

    #[test]
    fn what_is_missing_has_no_influence_and_a_region_without_values_stays_missing() {
        let mut clip = noise([1, 8, 8, 2], 9, 0.0);
        for y in 0..4 {
            for x in 0..8 {
                clip.values[(y * 8 + x) * 2] = f32::NAN;
            }
        }
        let small = fit_floats(&clip, [4, 4], [0.5; 2]).unwrap();
        let plane = |channel| small.values.iter().skip(channel).step_by(2).collect::<Vec<_>>();
        assert!(plane(0)[..4].iter().all(|x| x.is_nan()));
        assert!(plane(0)[12..].iter().all(|x| x.is_finite()));
        assert!(plane(1).iter().all(|x| x.is_finite()));
        let mut other = clip.clone();
        for value in other.values.iter_mut().filter(|x| x.is_nan()) {
            *value = f32::INFINITY;
        }
        assert_eq!(fit_floats(&other, [4, 4], [0.5; 2]).unwrap(), small);
    }

    #[test]
    fn constant_values_stay_what_they_are_beside_missing_ones() {
        let mut clip = noise([1, 12, 8, 1], 4, 0.0);
        clip.values.fill(281.5);
        clip.values[17] = f32::NAN;
        let small = fit_floats(&clip, [6, 4], [0.5; 2]).unwrap();
        assert!(small.values.iter().all(|x| (x - 281.5).abs() < 1e-3), "{:?}", small.values);
    }
}
