//! Convolution along time, against a naive twin in f64.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod oracle;

use oracle::attention::Sight;
use oracle::build::{EXACT, build, tolerance};
use oracle::draw::{cases, normal};
use oracle::{Video, Weights, array, relative, video};
use proptest::prelude::*;
use tch::{Kind, Tensor};
use vd_tensor_ops::kernels::{Precision, with};
use vd_tensor_ops::layers::TemporalConv;
use vd_tensor_ops::torch::testing::device;
use vd_tensor_ops::{FrameMask, Params};

/// Videos b f h w c, one frame and one pixel among them.
fn videos() -> impl Strategy<Value = [i64; 5]> {
    (1i64..=3, 1i64..=7, 1i64..=3, 1i64..=4, 1i64..=9).prop_map(|(b, f, h, w, c)| [b, f, h, w, c])
}

/// The sum over taps and channels of the frames that are there and may be seen.
fn twin(x: &Video, weights: &Weights, sees: &dyn Fn(usize, usize, usize) -> bool) -> Video {
    let (kernel, bias) = (weights.kernel("weight"), weights.row("bias"));
    let (taps, half) = (kernel.dim().2, kernel.dim().2 as i64 / 2);
    let (_, frames, _, _, channels) = x.dim();
    Video::from_shape_fn(x.dim(), |(b, f, row, column, o)| {
        let mut sum = bias[o];
        for t in 0..taps {
            let from = f as i64 + t as i64 - half;
            if from < 0 || from >= frames as i64 || !sees(b, f, from as usize) {
                continue;
            }
            for i in 0..channels {
                sum += kernel[[o, i, t, 0, 0]] * x[[b, from as usize, row, column, i]];
            }
        }
        sum
    })
}

/// A mask, and what it lets see.
fn mask(variant: u8, (b, f): (i64, i64), seed: u64) -> (Option<Tensor>, Sight) {
    let of = |mask: FrameMask| mask.forbidden(f, device());
    match variant {
        0 => (None, Box::new(|_, _, _| true)),
        1 => {
            let focus: Vec<bool> = (0..b).map(|k| seed >> k & 1 == 1).collect();
            let mask = of(FrameMask::Focus(Tensor::from_slice(&focus).to_device(device())));
            (mask, Box::new(move |b, i, j| !focus[b] || i == j))
        }
        2 => {
            let clip = 1 + (seed % f as u64) as usize;
            let mask = of(FrameMask::ClipAndImages { clip: clip as i64 });
            (mask, Box::new(move |_, i, j| i == j || i.max(j) < clip))
        }
        // Any pairs, of each sample or of all.
        _ => {
            let rows = if variant == 3 { 1 } else { b };
            let forbidden = normal(seed ^ 1, &[rows, 1, 1, f, f]).gt(0.0);
            let hidden = video(&forbidden);
            let sees = move |b: usize, i: usize, j: usize| {
                i == j || hidden[[b % rows as usize, 0, 0, i, j]] == 0.0
            };
            (Some(forbidden), Box::new(sees))
        }
    }
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn a_frame_is_a_sum_over_its_neighbours_in_time(
        [b, f, h, w, c] in videos(), half in 0i64..4, variant in 0u8..5, seed: u64,
    ) {
        for (kind, precision) in [
            (Kind::Double, Precision::Reference),
            (Kind::Float, Precision::Reference),
            (Kind::Float, Precision::Exact),
        ] {
            let (layer, weights) = build(kind, seed, |s| TemporalConv::new(s, c, 2 * half + 1));
            let x = normal(seed, &[b, f, h, w, c]).to_kind(kind);
            let (forbidden, sees) = mask(variant, (b, f), seed);
            let got = with(precision, || layer.forward(&x, forbidden.as_ref()));
            let expected = twin(&video(&x), &weights, &*sees);
            // As many roundings as products, and no scores.
            let allowed = tolerance(kind, (2 * half + 1) * c, 0.0);
            let error = relative(&got, &expected);
            prop_assert!(error <= allowed, "{kind:?}, {precision}: {error:e} > {allowed:e}");
        }
    }

    #[test]
    fn it_starts_as_the_identity_to_the_last_bit(
        [b, f, h, w, c] in videos(), half in 0i64..4, variant in 0u8..5, scale in -20i32..20,
        seed: u64,
    ) {
        for (kind, precision) in [
            (Kind::Double, Precision::F32),
            (Kind::Float, Precision::Reference),
            (Kind::Float, Precision::F32),
            (Kind::BFloat16, Precision::F32),
        ] {
            let mut params = Params::new(seed, kind, device());
            let layer = TemporalConv::new(&mut params.root(), c, 2 * half + 1).unwrap();
            let x = (normal(seed, &[b, f, h, w, c]) * 2f64.powi(scale)).to_kind(kind);
            let (forbidden, _) = mask(variant, (b, f), seed);
            prop_assert_eq!(with(precision, || layer.forward(&x, forbidden.as_ref())), x);
        }
    }

    #[test]
    fn what_is_hidden_does_not_leak_even_where_it_is_not_a_number(
        [b, f, h, w, c] in videos(), half in 0i64..4, seed: u64,
    ) {
        for (kind, precision) in
            [(Kind::Double, Precision::Reference), (Kind::Float, Precision::F32)]
        {
            let (layer, _) = build(kind, seed, |s| TemporalConv::new(s, c, 2 * half + 1));
            let x = normal(seed, &[b, f + 1, h, w, c]).to_kind(kind);
            let mask = FrameMask::ClipAndImages { clip: f }.forbidden(f + 1, device());
            let run = |x: &Tensor| with(precision, || layer.forward(x, mask.as_ref()));
            let broken = run(&x.index_fill(1, &Tensor::from_slice(&[f]).to_device(device()), f64::NAN));
            let whole = run(&x);
            prop_assert_eq!(whole.narrow(1, 0, f), broken.narrow(1, 0, f));
            let alone = with(precision, || layer.forward(&x.narrow(1, 0, f), None));
            prop_assert!(relative(&whole.narrow(1, 0, f), &array(&alone)) <= tolerance(kind, c, 0.0));
        }
    }
}

#[test]
fn kernels_without_a_middle_are_refused_and_parameters_are_those_of_a_convolution() {
    for kernel in [0, 2, -3] {
        let mut params = Params::new(0, Kind::Float, device());
        let refused = TemporalConv::new(&mut params.root(), 4, kernel).unwrap_err().to_string();
        assert!(
            refused.contains("odd number") && refused.contains(&kernel.to_string()),
            "{refused}"
        );
    }
    let mut params = Params::new(0, Kind::Double, device());
    TemporalConv::new(&mut params.root(), 3, 5).unwrap();
    let tensors = params.tensors();
    assert_eq!((tensors["weight"].size(), tensors["bias"].size()), (vec![3, 3, 5, 1, 1], vec![3]));
    // In the terms of the library's own convolution.
    let weight = normal(1, &[3, 3, 5, 1, 1]);
    tensors["weight"].shallow_clone().copy_(&weight);
    let mut again = Params::new(0, Kind::Double, device());
    let layer = TemporalConv::new(&mut again.root(), 3, 5).unwrap();
    again.load(&tensors).unwrap();
    let x = normal(2, &[2, 4, 3, 2, 3]);
    let first = x.permute([0, 4, 1, 2, 3]);
    let expected = first.conv3d(&weight, None::<&Tensor>, [1, 1, 1], [2, 0, 0], [1, 1, 1], 1);
    let got = layer.forward(&x, None).permute([0, 4, 1, 2, 3]);
    assert!(relative(&got, &array(&expected)) <= EXACT);
}
