//! Every layer against its naive twin in f64.
//!
//! Parameters and inputs are drawn in the kind under test, so that the twin sees the same numbers:
//! what is measured is the layer's arithmetic alone. In f64 the two may differ by some hundred
//! roundings (1e-16 each); in f32 by a bound that is derived where it stands.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod oracle;

use ndarray::{Array1, ArrayD};
use oracle::draw::{cases, normal, one_thread, perturb};
use oracle::{U32, Video, Weights, array, dense, norm, relative, share, video};
use proptest::prelude::*;
use tch::{Kind, Tensor};
use vd_tensor_ops::layers::{GroupNorm, LayerNorm, Linear, RmsNorm, SpaceConv, SpaceDown, SpaceUp};
use vd_tensor_ops::torch::testing::{device, tolerance};
use vd_tensor_ops::{Params, Result, Scope};

/// Relative difference that f64 arithmetic explains.
const EXACT: f64 = 1e-13;
const KINDS: [Kind; 2] = [Kind::Double, Kind::Float];

/// A layer of a kind, moved away from its start, with its parameters.
fn build<L>(kind: Kind, seed: u64, new: impl Fn(&mut Scope) -> Result<L>) -> (L, Weights) {
    one_thread();
    let mut params = Params::new(seed, kind, device());
    let layer = new(&mut params.root()).unwrap();
    perturb(&params, seed ^ 0xFACE);
    (layer, Weights::of(&params))
}

fn draw(kind: Kind, seed: u64, shape: &[i64]) -> Tensor {
    normal(seed, shape).to_kind(kind)
}

/// In f64 the relative difference, in f32 every element's difference against its bound. On CUDA the
/// relative difference in f32 too: cuDNN may transform before it multiplies, and errs otherwise.
fn hold<D: ndarray::Dimension>(
    got: &Tensor,
    expected: &ndarray::Array<f64, D>,
    bound: &ndarray::Array<f64, D>,
) {
    match got.kind() {
        Kind::Double => {
            let error = relative(got, expected);
            assert!(error <= EXACT, "f64: relative difference {error:e}");
        }
        kind if device().is_cuda() => {
            assert_eq!(kind, Kind::Float);
            let error = relative(got, expected);
            assert!(error <= tolerance(0.0), "f32: relative difference {error:e}");
        }
        kind => {
            assert_eq!(kind, Kind::Float);
            let share = share(got, expected, bound);
            assert!(share <= 1.0, "f32: {share} times the bound");
        }
    }
}

fn all_positive<D: ndarray::Dimension>(a: &ndarray::Array<f64, D>) -> ndarray::Array<f64, D> {
    a.mapv(f64::abs)
}

/// What k roundings do to a sum of products, by the sum of their sizes (Higham 2002, section 3.1).
fn roundings<D: ndarray::Dimension>(
    k: usize,
    sizes: ndarray::Array<f64, D>,
) -> ndarray::Array<f64, D> {
    sizes * ((k + 2) as f64 * U32)
}

/// Videos b f h w: batch 1 to 3, down to one frame and one pixel, mostly not square.
fn videos() -> impl Strategy<Value = [i64; 4]> {
    (1i64..=3, 1i64..=4, 1i64..=6, 1i64..=6).prop_map(|(b, f, h, w)| [b, f, h, w])
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn linear_is_a_sum_over_inputs(
        [b, f, h, _] in videos(), c in 1i64..40, out in 1i64..9, kernel in 0usize..4,
        biased: bool, seed: u64,
    ) {
        for kind in KINDS {
            let (layer, weights) = build(kind, seed, |s| match (kernel, biased) {
                (0, true) => Linear::new(s, c, out),
                (0, false) => Linear::without_bias(s, c, out),
                _ => Linear::pointwise(s, c, out, kernel, biased),
            });
            prop_assert_eq!(weights.get("weight").ndim(), 2 + kernel);
            let x = draw(kind, seed, &[b, f, h, c]);
            let (w, bias) = (weights.matrix("weight"), biased.then(|| weights.row("bias")));
            let expected = dense::linear(&array(&x), &w, bias.as_ref());
            let sizes = dense::linear(
                &all_positive(&array(&x)),
                &all_positive(&w),
                bias.as_ref().map(all_positive).as_ref(),
            );
            hold(&layer.forward(&x), &expected, &roundings(c as usize, sizes));
        }
    }

    #[test]
    fn space_convolution_is_a_correlation_of_every_frame(
        [b, f, h, w] in videos(), c in 1i64..6, out in 1i64..6, half in 0i64..4, seed: u64,
    ) {
        let kernel = 2 * half + 1;
        for kind in KINDS {
            let (layer, weights) = build(kind, seed, |s| SpaceConv::new(s, c, out, kernel));
            let x = draw(kind, seed, &[b, f, h, w, c]);
            let (k, bias) = (weights.kernel("weight"), weights.row("bias"));
            let run = |x: &Video, k: &Video, bias: &Array1<f64>| {
                dense::convolution(x, k, bias, 1, half as usize)
            };
            let x5 = video(&x);
            let sizes = run(&all_positive(&x5), &all_positive(&k), &all_positive(&bias));
            let terms = (c * kernel * kernel) as usize;
            hold(&layer.forward(&x), &run(&x5, &k, &bias), &roundings(terms, sizes));
        }
    }

    #[test]
    fn strided_down_takes_every_second_window(
        [b, f, h, w] in videos(), c in 1i64..6, seed: u64,
    ) {
        // One more each way: a window of four with a border of one needs two pixels.
        let (h, w) = (h + 1, w + 1);
        for kind in KINDS {
            let (layer, weights) = build(kind, seed, |s| SpaceDown::new(s, c));
            let x = draw(kind, seed, &[b, f, h, w, c]);
            let (k, bias) = (weights.kernel("weight"), weights.row("bias"));
            let run = |x: &Video, k: &Video, bias: &Array1<f64>| dense::convolution(x, k, bias, 2, 1);
            let x5 = video(&x);
            let sizes = run(&all_positive(&x5), &all_positive(&k), &all_positive(&bias));
            let got = layer.forward(&x);
            prop_assert_eq!(got.size(), [b, f, h / 2, w / 2, c]);
            hold(&got, &run(&x5, &k, &bias), &roundings(16 * c as usize, sizes));
        }
    }

    #[test]
    fn transposed_up_spreads_every_pixel(
        [b, f, h, w] in videos(), c in 1i64..6, seed: u64,
    ) {
        for kind in KINDS {
            let (layer, weights) = build(kind, seed, |s| SpaceUp::new(s, c));
            let x = draw(kind, seed, &[b, f, h, w, c]);
            let (k, bias) = (weights.kernel("weight"), weights.row("bias"));
            let run = |x: &Video, k: &Video, bias: &Array1<f64>| dense::transposed(x, k, bias, 2, 1);
            let x5 = video(&x);
            let sizes = run(&all_positive(&x5), &all_positive(&k), &all_positive(&bias));
            let got = layer.forward(&x);
            prop_assert_eq!(got.size(), [b, f, 2 * h, 2 * w, c]);
            hold(&got, &run(&x5, &k, &bias), &roundings(4 * c as usize, sizes));
        }
    }

    #[test]
    fn rms_norm_scales_every_position_to_unit_length(
        [b, f, h, w] in videos(), c in 1i64..70, decade in -14i32..15, seed: u64,
    ) {
        for kind in KINDS {
            let (layer, weights) = build(kind, seed, |s| RmsNorm::new(s, c));
            let x = draw(kind, seed, &[b, f, h, w, c]) * 10f64.powi(decade);
            let expected = norm::rms(&array(&x), &weights.row("gamma"));
            // Squares and their sum are positive: nothing cancels, and the root halves the error.
            let bound = all_positive(&expected) * ((c as f64 / 2.0 + 8.0) * U32);
            hold(&layer.forward(&x), &expected, &bound);
        }
    }

    #[test]
    fn layer_norm_has_the_moments_of_every_position(
        [b, f, h, w] in videos(), c in 1i64..70, offset in -3.0..3.0f64, seed: u64,
    ) {
        for kind in KINDS {
            let (layer, weights) = build(kind, seed, |s| LayerNorm::new(s, c));
            let x = draw(kind, seed, &[b, f, h, w, c]) + offset;
            let gain = weights.row("gamma");
            let values = array(&x);
            let expected = norm::layer(&values, &gain);
            let mut bound = ArrayD::zeros(expected.raw_dim());
            let axis = ndarray::Axis(4);
            for (lane, mut bounds) in values.lanes(axis).into_iter().zip(bound.lanes_mut(axis)) {
                let moved = moment_bound(lane.iter().copied());
                for (i, out) in bounds.iter_mut().enumerate() {
                    *out = moved(lane[i]) * gain[i].abs();
                }
            }
            hold(&layer.forward(&x), &expected, &bound);
        }
    }

    #[test]
    fn group_norm_has_the_moments_of_a_group_over_all_frames(
        [b, f, h, w] in videos(), each in 1i64..9, groups in 1i64..5, offset in -3.0..3.0f64,
        seed: u64,
    ) {
        let c = each * groups;
        for kind in KINDS {
            let (layer, weights) = build(kind, seed, |s| GroupNorm::new(s, c, groups));
            let x = draw(kind, seed, &[b, f, h, w, c]) + offset;
            let (gain, bias) = (weights.row("weight"), weights.row("bias"));
            let values = video(&x);
            let expected = norm::group(&values, &gain, &bias, groups as usize);
            let mut bound = all_positive(&expected) * U32;
            for ((sample, _, _, _, channel), out) in bound.indexed_iter_mut() {
                let group = channel / each as usize;
                let members = values.index_axis(ndarray::Axis(0), sample);
                let members: Vec<f64> = members
                    .indexed_iter()
                    .filter(|(at, _)| at.3 / each as usize == group)
                    .map(|(_, v)| *v)
                    .collect();
                let most = members.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
                *out += moment_bound(members.iter().copied())(most) * gain[channel].abs()
                    + bias[channel].abs() * U32;
            }
            hold(&layer.forward(&x), &expected, &bound);
        }
    }
}

proptest! {
    #![proptest_config(cases(6))]

    #[test]
    fn no_layer_depends_on_the_strides_of_its_input(
        b in 1i64..3, f in 2i64..5, h in 2i64..5, w in 2i64..5, half in 1i64..4, seed: u64,
    ) {
        for animal in oracle::zoo::zoo(seed, 2 * half) {
            let first = normal(seed, &[b, 2 * half, f, h, w]);
            let view = first.permute([0, 2, 3, 4, 1]);
            let error = relative(&(animal.forward)(&view), &array(&(animal.forward)(&view.contiguous())));
            prop_assert!(error <= EXACT, "{}: {error:e}", animal.name);
        }
    }

    #[test]
    fn half_precision_costs_its_own_roundings_only(
        // Two channels may be nearly equal, where layer norm multiplies the error of its input.
        b in 1i64..3, f in 2i64..5, h in 2i64..5, w in 2i64..5, half in 2i64..4, seed: u64,
    ) {
        let x = normal(seed, &[b, f, h, w, 2 * half]);
        let exact: Vec<_> = oracle::zoo::zoo(seed, 2 * half)
            .iter()
            .map(|animal| array(&(animal.forward)(&x)))
            .collect();
        for (kind, u) in [(Kind::BFloat16, 2f64.powi(-9)), (Kind::Half, 2f64.powi(-12))] {
            for (animal, exact) in oracle::zoo::zoo_of(kind, seed, 2 * half).iter().zip(&exact) {
                let got = (animal.forward)(&x.to_kind(kind));
                prop_assert_eq!(got.kind(), kind);
                // Input, parameters and every stage round once; sums run in f32.
                let error = relative(&got, exact);
                prop_assert!(error <= 32.0 * u, "{} in {kind:?}: {error:e}", animal.name);
            }
        }
    }

    #[test]
    fn no_layer_mixes_samples(
        b in 2i64..5, f in 2i64..4, h in 2i64..4, w in 2i64..4, half in 1i64..4, seed: u64,
    ) {
        for animal in oracle::zoo::zoo(seed, 2 * half) {
            let x = normal(seed, &[b, f, h, w, 2 * half]);
            let all = (animal.forward)(&x);
            // Sample 0 alone; a focus mask alternates, so that it keeps its place.
            let alone = (animal.forward)(&x.narrow(0, 0, 1));
            let error = relative(&all.narrow(0, 0, 1), &array(&alone));
            prop_assert!(error <= EXACT, "{}: {error:e}", animal.name);
        }
    }
}

/// What f32 may do to (x - mean) / sqrt(variance + 1e-5), for every x of `values`.
///
/// n roundings move the mean by n u mean|x|, hence every x - mean by as much over its deviation s,
/// and s itself by twice that share; n more roundings sum the squares.
fn moment_bound(values: impl Iterator<Item = f64> + Clone) -> impl Fn(f64) -> f64 {
    let (mean, variance) = norm::moments(values.clone());
    let s = (variance + 1e-5).sqrt();
    let (size, _) = norm::moments(values.clone().map(f64::abs));
    let roundings = (values.count() + 16) as f64 * U32;
    move |x| {
        let normal = ((x - mean) / s).abs();
        2.0 * roundings * (normal + 1.0) * (1.0 + size / s)
    }
}
