//! Pixel ranges, layouts, and the way to and from `ndarray`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod oracle;

use std::fmt::Debug;

use ndarray::{ArrayD, Axis, IxDyn, Slice};
use oracle::draw::{cases, normal, uniform};
use oracle::{array, video as video5};
use proptest::prelude::*;
use tch::kind::Element;
use tch::{Kind, Tensor};
use vd_tensor_ops::video::{
    from_ndarray, from_u8, to_channels_first, to_channels_last, to_ndarray, to_u8,
};

fn all_pixels() -> Tensor {
    let values: Vec<u8> = (0..=255).collect();
    Tensor::from_slice(&values)
}

#[test]
fn every_pixel_value_survives_the_range_of_the_process() {
    let pixels = all_pixels();
    let values = from_u8(&pixels);
    assert_eq!(values.kind(), Kind::Float);
    for (v, got) in array(&values).iter().enumerate() {
        // One rounding each for the quotient, up to 2, and the difference.
        assert!((got - (v as f64 / 127.5 - 1.0)).abs() <= 3.0 * oracle::U32, "pixel {v}: {got}");
    }
    assert_eq!(values.min().double_value(&[]), -1.0);
    assert_eq!(values.max().double_value(&[]), 1.0);
    assert_eq!(to_u8(&values), pixels);
    for kind in [Kind::Double, Kind::Float] {
        for offset in [-0.49, 0.49] {
            let moved = values.to_kind(kind) + offset / 127.5;
            assert_eq!(to_u8(&moved), pixels, "{kind:?}, {offset} of a pixel away");
        }
    }
}

/// Elements in their order, whatever the strides.
fn values<T: Element + Copy>(t: &Tensor) -> Vec<T> {
    Vec::try_from(t.contiguous().view([-1])).unwrap()
}

/// A video b c f h w of given sizes whose memory is laid out and sliced as `draws` says.
fn strided(seed: u64, size: &[i64], draws: u64) -> Tensor {
    let mut order: Vec<i64> = (0..5).collect();
    let mut rest = draws;
    for i in (1..5).rev() {
        order.swap(i, (rest % (i as u64 + 1)) as usize);
        rest /= 5;
    }
    let steps: Vec<i64> = (0..5).map(|axis| 1 + (draws >> (20 + axis) & 1) as i64).collect();
    let stored: Vec<i64> =
        order.iter().map(|axis| size[*axis as usize] * steps[*axis as usize]).collect();
    let mut t = normal(seed, &stored);
    let mut back = [0i64; 5];
    for (i, axis) in order.iter().enumerate() {
        t = t.slice(i as i64, 0, stored[i], steps[*axis as usize]);
        back[*axis as usize] = i as i64;
    }
    let t = t.permute(back);
    assert_eq!(t.size(), size);
    t
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn values_beyond_the_range_are_clamped(seed: u64, scale in 1.0..1e6f64) {
        let x = normal(seed, &[3, 50]) * scale;
        let got = values::<u8>(&to_u8(&x));
        for (x, got) in values::<f64>(&x).iter().zip(got) {
            if *x <= -1.0 {
                prop_assert_eq!(got, 0);
            }
            if *x >= 1.0 {
                prop_assert_eq!(got, 255);
            }
        }
        let ends = Tensor::from_slice(&[f32::NEG_INFINITY, f32::INFINITY, -1.0, 1.0]);
        prop_assert_eq!(values::<u8>(&to_u8(&ends)), [0, 255, 0, 255]);
    }

    #[test]
    fn values_inside_the_range_go_to_the_nearest_pixel(seed: u64) {
        let x = uniform(seed, &[500], -1.0, 1.0);
        for (x, got) in values::<f64>(&x).iter().zip(values::<u8>(&to_u8(&x))) {
            // Half a pixel, and the roundings of f32 at 255.
            prop_assert!(((x + 1.0) * 127.5 - f64::from(got)).abs() <= 0.5 + 512.0 * oracle::U32);
        }
    }

    #[test]
    fn layouts_move_every_value_to_its_place_and_back(
        size in prop::array::uniform5(0i64..4), draws: u64, seed: u64,
    ) {
        let x = strided(seed, &size, draws);
        let last = to_channels_last(&x);
        prop_assert!(last.is_contiguous());
        let (first, moved) = (video5(&x), video5(&last));
        prop_assert_eq!(moved.len(), first.len());
        for ((b, f, h, w, c), value) in moved.indexed_iter() {
            prop_assert_eq!(*value, first[[b, c, f, h, w]]);
        }
        let back = to_channels_first(&last);
        prop_assert!(back.is_contiguous());
        prop_assert_eq!(&back, &x);
        // Either way round, and from a view that is not contiguous.
        let view = x.permute([0, 2, 3, 4, 1]);
        prop_assert_eq!(to_channels_last(&to_channels_first(&view)), view);
    }

    #[test]
    fn arrays_of_any_layout_become_tensors_and_come_back(
        shape in prop::collection::vec(0usize..5, 0..=5), draws: u64,
    ) {
        let count: usize = shape.iter().product();
        let word = |i: usize| vd_tensor_ops::derive_seed(draws, &[i as u64]);
        let bytes: Vec<u8> = (0..count).map(|i| word(i) as u8).collect();
        let singles: Vec<f32> = (0..count).map(|i| word(i) as i32 as f32 / 3.0).collect();
        let doubles: Vec<f64> = (0..count).map(|i| word(i) as i64 as f64 / 3.0).collect();
        round_trip(&shape, bytes, draws)?;
        round_trip(&shape, singles, draws)?;
        round_trip(&shape, doubles, draws)?;
    }

    #[test]
    fn tensors_of_any_strides_become_arrays(
        size in prop::array::uniform5(0i64..4), draws: u64, seed: u64,
    ) {
        let x = strided(seed, &size, draws);
        prop_assert_eq!(to_ndarray::<f64>(&x).unwrap(), array(&x));
        let single = x.to_kind(Kind::Float);
        prop_assert_eq!(to_ndarray::<f32>(&single).unwrap().mapv(f64::from), array(&single));
    }
}

/// The array as it is, with its axes reversed, read backwards, and every second entry of an axis.
fn round_trip<T>(shape: &[usize], values: Vec<T>, draws: u64) -> Result<(), TestCaseError>
where
    T: Element + Copy + PartialEq + Debug,
{
    let plain = ArrayD::from_shape_vec(IxDyn(shape), values).unwrap();
    let mut layouts = vec![plain.clone(), plain.clone().reversed_axes()];
    let mut inverted = plain.clone();
    let mut sliced = plain;
    for axis in 0..shape.len() {
        if draws >> axis & 1 == 1 {
            inverted.invert_axis(Axis(axis));
        }
        if draws >> (8 + axis) & 1 == 1 {
            sliced.slice_axis_inplace(Axis(axis), Slice::new(0, None, 2));
        }
    }
    layouts.extend([inverted, sliced]);
    for layout in layouts {
        let tensor = from_ndarray(&layout).unwrap();
        let size: Vec<usize> = tensor.size().iter().map(|n| *n as usize).collect();
        prop_assert_eq!((size.as_slice(), tensor.kind()), (layout.shape(), T::KIND));
        if layout.ndim() > 0 && !layout.is_empty() {
            let last: Vec<usize> = layout.shape().iter().map(|n| n - 1).collect();
            let at: Vec<i64> = last.iter().map(|i| *i as i64).collect();
            let corner = tensor.double_value(&at);
            prop_assert_eq!(corner, array(&Tensor::from_slice(&[layout[IxDyn(&last)]]))[[0]]);
        }
        prop_assert_eq!(to_ndarray::<T>(&tensor).unwrap(), layout);
    }
    Ok(())
}

#[test]
fn a_video_goes_from_bytes_through_the_network_layout_and_back() {
    let bytes: Vec<u8> = (0..2 * 3 * 4 * 5 * 3).map(|i| (i * 37 % 256) as u8).collect();
    // b f h w c, as decoders give it.
    let clip = ArrayD::from_shape_vec(IxDyn(&[2, 3, 4, 5, 3]), bytes).unwrap();
    let video = to_channels_first(&from_u8(&from_ndarray(&clip).unwrap()));
    assert_eq!(video.size(), [2, 3, 3, 4, 5]);
    let back: ArrayD<u8> = to_ndarray(&to_u8(&to_channels_last(&video))).unwrap();
    assert_eq!(back, clip);
}

#[test]
fn an_array_of_another_kind_is_refused_with_both_kinds() {
    let x = normal(1, &[2, 2]);
    for message in [
        to_ndarray::<f32>(&x).unwrap_err().to_string(),
        to_ndarray::<u8>(&x).unwrap_err().to_string(),
    ] {
        assert!(message.contains("Double"), "{message}");
    }
    assert!(to_ndarray::<f32>(&x).unwrap_err().to_string().contains("expected Float"));
}

#[test]
fn an_array_keeps_its_values_when_the_tensor_changes() {
    let x = normal(2, &[3]);
    let kept: ArrayD<f64> = to_ndarray(&x).unwrap();
    let copied = from_ndarray(&kept).unwrap();
    let before = array(&x);
    let _ = x.shallow_clone().g_add_scalar_(1.0);
    assert_eq!(kept, before);
    assert_eq!(array(&copied), before);
}
