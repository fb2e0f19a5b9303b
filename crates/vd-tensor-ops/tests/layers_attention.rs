//! The attentions and what they know of positions, against their naive twins in f64.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod oracle;

use ndarray::Array2;
use oracle::attention::{self, Heads};
use oracle::build::{EXACT, KINDS, build, tolerance};
use oracle::draw::{cases, normal, uniform};
use oracle::{U32, array, matrix, position, relative, row, share, video};
use proptest::prelude::*;
use tch::{Kind, Tensor};
use vd_tensor_ops::layers::{
    HeadShape, RelativeBias, SinusoidalEmbedding, SpatialAttention, SpatialLinearAttention,
    TemporalAttention,
};
use vd_tensor_ops::torch::testing::device;
use vd_tensor_ops::{FrameMask, Params};

/// Distance from which on all frames are equally far.
const FAR: i64 = 32;

/// An upper estimate of the scores: |q| |k| / sqrt(d), token by token.
fn largest_score(qkv: &ndarray::ArrayD<f64>, heads: i64, dim: i64) -> f64 {
    let (inner, d) = ((heads * dim) as usize, dim as usize);
    let last = ndarray::Axis(qkv.ndim() - 1);
    let longest = |first: usize| {
        let lanes = qkv.lanes(last).into_iter();
        let heads = lanes.flat_map(|l| {
            (0..heads as usize)
                .map(move |n| (0..d).map(|e| l[first + n * d + e].powi(2)).sum::<f64>().sqrt())
        });
        heads.fold(0.0, f64::max)
    };
    longest(0) * longest(inner) / (dim as f64).sqrt()
}

/// Videos b f h w c.
fn videos() -> impl Strategy<Value = [i64; 5]> {
    (1i64..=3, 1i64..=6, 1i64..=4, 1i64..=4, 1i64..=7).prop_map(|(b, f, h, w, c)| [b, f, h, w, c])
}

/// Heads, and widths around the 32 features that are turned.
fn heads() -> impl Strategy<Value = (i64, i64)> {
    (1i64..=3, prop::sample::select(vec![2i64, 6, 20, 32, 33, 40]))
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn temporal_attention_attends_along_time_at_every_position(
        [b, f, h, w, c] in videos(), (heads, dim) in heads(), variant in 0..3, draws: u64,
    ) {
        let focus: Vec<bool> = (0..b).map(|k| draws >> k & 1 == 1).collect();
        let clip = 1 + (draws % f as u64) as usize;
        let (mask, sees): (_, attention::Sight) = match variant {
            0 => (FrameMask::All, Box::new(|_, _, _| true)),
            1 => {
                let mask = FrameMask::Focus(Tensor::from_slice(&focus).to_device(device()));
                (mask, Box::new(move |b, i, j| !focus[b] || i == j))
            }
            _ => {
                let mask = FrameMask::ClipAndImages { clip: clip as i64 };
                (mask, Box::new(move |_, i, j| i == j || i.max(j) < clip))
            }
        };
        mask.validate(b, f).unwrap();
        for kind in KINDS {
            let shape = HeadShape::new(heads, dim).unwrap();
            let ((layer, bias), weights) = build(kind, draws, |s| {
                Ok((
                    TemporalAttention::new(&mut s.sub("a"), c, shape)?,
                    RelativeBias::new(&mut s.sub("b"), heads, FAR)?,
                ))
            });
            let x = normal(draws, &[b, f, h, w, c]).to_kind(kind);
            let forbidden = mask.forbidden(f, device());
            let got = layer.forward(&x, Some(&bias.forward(f)), forbidden.as_ref());

            let table = weights.matrix("b.relative_attention_bias.weight");
            let expected = attention::temporal(
                &video(&x),
                (&weights.matrix("a.to_qkv.weight"), &weights.matrix("a.to_out.weight")),
                &weights.row("a.rotary_emb.freqs"),
                &position::relative_bias(&table, f as usize, FAR as u128),
                Heads { heads: heads as usize, dim: dim as usize },
                &sees,
            );
            let qkv = oracle::dense::linear(&array(&x), &weights.matrix("a.to_qkv.weight"), None);
            let scores = largest_score(&qkv, heads, dim);
            let allowed = tolerance(kind, c + dim + f + heads * dim, scores);
            let error = relative(&got, &expected);
            prop_assert!(error <= allowed, "{kind:?}: {error:e} > {allowed:e}");
        }
    }

    #[test]
    fn spatial_attention_attends_over_the_positions_of_a_frame(
        [b, f, h, w, c] in videos(), (heads, dim) in heads(), seed: u64,
    ) {
        for kind in KINDS {
            let shape = HeadShape::new(heads, dim).unwrap();
            let (layer, weights) = build(kind, seed, |s| SpatialAttention::new(s, c, shape));
            let x = normal(seed, &[b, f, h, w, c]).to_kind(kind);
            let to_qkv = weights.matrix("to_qkv.weight");
            let shape = Heads { heads: heads as usize, dim: dim as usize };
            let expected =
                attention::spatial(&video(&x), &to_qkv, &weights.matrix("to_out.weight"), shape);
            let scores = largest_score(&oracle::dense::linear(&array(&x), &to_qkv, None), heads, dim);
            let allowed = tolerance(kind, c + dim + h * w + heads * dim, scores);
            let error = relative(&layer.forward(&x), &expected);
            prop_assert!(error <= allowed, "{kind:?}: {error:e} > {allowed:e}");
        }
    }

    #[test]
    fn linear_attention_weighs_by_two_softmaxes(
        [b, f, h, w, c] in videos(), (heads, dim) in heads(), seed: u64,
    ) {
        for kind in KINDS {
            let shape = HeadShape::new(heads, dim).unwrap();
            let (layer, weights) = build(kind, seed, |s| SpatialLinearAttention::new(s, c, shape));
            let x = normal(seed, &[b, f, h, w, c]).to_kind(kind);
            let to_qkv = weights.matrix("to_qkv.weight");
            let out = (&weights.matrix("to_out.weight"), &weights.row("to_out.bias"));
            let shape = Heads { heads: heads as usize, dim: dim as usize };
            let expected = attention::linear(&video(&x), &to_qkv, out, shape);
            // The scores of both softmaxes are the features themselves.
            let qkv = oracle::dense::linear(&array(&x), &to_qkv, None);
            let scores = qkv.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
            let allowed = tolerance(kind, c + dim + h * w + heads * dim, scores);
            let error = relative(&layer.forward(&x), &expected);
            prop_assert!(error <= allowed, "{kind:?}: {error:e} > {allowed:e}");
        }
    }

    #[test]
    fn attention_over_space_follows_a_permutation_of_positions(
        [b, f, h, w, c] in videos(), shift in 1i64..12, seed: u64,
    ) {
        let shape = HeadShape::new(2, 6).unwrap();
        let (full, _) = build(Kind::Double, seed, |s| SpatialAttention::new(s, c, shape));
        let (linear, _) = build(Kind::Double, seed, |s| SpatialLinearAttention::new(s, c, shape));
        let x = normal(seed, &[b, f, h, w, c]);
        let permute = |x: &Tensor| {
            x.flatten(2, 3).roll([shift], [2]).flip([2]).view([b, f, h, w, c])
        };
        for layer in [&|x: &Tensor| full.forward(x), &|x: &Tensor| linear.forward(x)]
            as [&dyn Fn(&Tensor) -> Tensor; 2]
        {
            let error = relative(&layer(&permute(&x)), &array(&permute(&layer(&x))));
            prop_assert!(error <= EXACT, "{error:e}");
        }
    }

    #[test]
    fn sinusoids_have_frequencies_from_1_to_a_ten_thousandth(
        b in 1i64..5, f in 1i64..4, half in 2i64..40, limit in 1.0..1000.0f64, per_frame: bool,
        seed: u64,
    ) {
        let shape = if per_frame { vec![b, f] } else { vec![b] };
        for kind in KINDS {
            let t = uniform(seed, &shape, 0.0, limit).to_kind(kind);
            let layer = SinusoidalEmbedding::new(2 * half).unwrap();
            let got = layer.forward(&t, kind);
            let expected = position::sinusoids(&array(&t), 2 * half as usize);
            // The exponent, at most 9.3, is rounded twice, the power and the product once.
            let bound = expected.mapv(|_| U32 * (24.0 * limit + 2.0));
            match kind {
                Kind::Double => prop_assert!(relative(&got, &expected) <= 1e-12),
                _ => prop_assert!(share(&got, &expected, &bound) <= 1.0),
            }
        }
    }

    #[test]
    fn the_relative_bias_is_the_table_looked_up_by_distance(
        f in 1i64..70, heads in 1i64..5, far in 9i64..129, seed: u64,
    ) {
        let (layer, weights) = build(Kind::Double, seed, |s| RelativeBias::new(s, heads, far));
        let table = weights.matrix("relative_attention_bias.weight");
        let expected = position::relative_bias(&table, f as usize, far as u128);
        prop_assert_eq!(relative(&layer.forward(f), &expected), 0.0);
    }
}

/// Where the buckets 8 to 15 of one direction begin, computed by T5's published function
/// `_relative_position_bucket` (bidirectional, 32 buckets) in torch 2.11 for these largest distances.
const BEGINS: [(i64, [i64; 8]); 8] = [
    (16, [8, 9, 10, 11, 12, 13, 14, 15]),
    (20, [8, 9, 11, 12, 13, 15, 16, 18]),
    (32, [8, 10, 12, 14, 16, 20, 23, 27]),
    (64, [8, 11, 14, 18, 23, 30, 39, 50]),
    (100, [8, 11, 16, 21, 29, 39, 54, 73]),
    (128, [8, 12, 16, 23, 32, 46, 64, 91]),
    (256, [8, 13, 20, 30, 46, 70, 108, 166]),
    (1000, [8, 15, 27, 49, 90, 164, 300, 547]),
];

#[test]
fn buckets_are_those_of_t5() {
    for (far, begins) in BEGINS {
        let (layer, _) = build(Kind::Float, 0, |s| RelativeBias::new(s, 1, far));
        for distance in 0..1100 {
            let steps = begins.iter().filter(|begin| distance >= **begin).count() as i64;
            let bucket = if distance < 8 { distance } else { 7 + steps };
            assert_eq!(layer.bucket(distance), bucket, "distance {distance} of {far}");
            assert_eq!(position::bucket(distance, far as u128) as i64, bucket);
            if distance > 0 {
                assert_eq!(layer.bucket(-distance), 16 + bucket, "distance -{distance} of {far}");
                assert_eq!(position::bucket(-distance, far as u128) as i64, 16 + bucket);
            }
        }
    }
}

#[test]
fn distances_without_a_logarithmic_range_are_refused() {
    for far in [-1, 0, 7, 8] {
        let mut params = Params::new(0, Kind::Float, device());
        let message = RelativeBias::new(&mut params.root(), 1, far).unwrap_err().to_string();
        assert!(message.contains("more than 8") && message.contains(&far.to_string()), "{message}");
    }
    let (layer, _) = build(Kind::Float, 0, |s| RelativeBias::new(s, 1, 9));
    assert_eq!((layer.bucket(i64::MAX), layer.bucket(-i64::MAX)), (15, 31));
}

#[test]
fn the_sinusoids_of_a_low_precision_network_tell_steps_apart() {
    let layer = SinusoidalEmbedding::new(16).unwrap();
    let t = Tensor::from_slice(&[997i64, 998, 999]).to_device(device());
    let expected = position::sinusoids(&array(&t), 16);
    for (kind, u) in [(Kind::BFloat16, 2f64.powi(-9)), (Kind::Half, 2f64.powi(-12))] {
        let got = layer.forward(&t, kind);
        assert_eq!(got.kind(), kind);
        // One rounding to the kind; the rest happens in f32.
        let bound = expected.mapv(|v| v.abs() * u + 1e-3 * u + 24.0 * 999.0 * U32);
        let share = share(&got, &expected, &bound);
        assert!(share <= 1.0, "{kind:?}: {share} times the bound");
    }
}

#[test]
fn a_frame_that_sees_only_itself_gets_its_own_value() {
    let shape = HeadShape::new(2, 6).unwrap();
    let (layer, weights) = build(Kind::Double, 3, |s| TemporalAttention::new(s, 5, shape));
    let x = normal(4, &[2, 4, 3, 2, 5]);
    let mask = FrameMask::Focus(Tensor::from_slice(&[true, true]).to_device(device()));
    let forbidden = mask.forbidden(4, device());
    let got = layer.forward(&x, Some(&normal(5, &[2, 4, 4])), forbidden.as_ref());
    let to_value: Array2<f64> =
        weights.matrix("to_qkv.weight").slice(ndarray::s![24.., ..]).to_owned();
    let values = oracle::dense::channels(&video(&x), &to_value, None);
    let expected = oracle::dense::channels(&values, &weights.matrix("to_out.weight"), None);
    assert!(relative(&got, &expected) <= EXACT);
    // The bridges of the twin are exact both ways.
    assert_eq!(matrix(&oracle::tensor(&to_value)), to_value);
    assert_eq!(row(&oracle::tensor(&weights.row("rotary_emb.freqs"))).len(), 3);
}
