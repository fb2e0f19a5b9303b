//! Attention along time with a vector for each distance, against a naive twin in f64.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod oracle;

use ndarray::{Array2, s};
use oracle::attention::{Sight, softmax};
use oracle::build::{KINDS, tolerance};
use oracle::dense::channels;
use oracle::draw::{cases, normal, one_thread, perturb};
use oracle::{Video, Weights, array, relative, video};
use proptest::prelude::*;
use tch::{Kind, Tensor};
use vd_tensor_ops::layers::{HeadShape, Memory, TemporalAttention};
use vd_tensor_ops::torch::testing::device;
use vd_tensor_ops::{FrameMask, Params};

/// A layer moved away from its start, its vectors as large as keys and values, and its weights.
fn shaw(
    (kind, seed): (Kind, u64),
    c: i64,
    shape: HeadShape,
    distance: i64,
) -> (TemporalAttention, Weights) {
    one_thread();
    let mut params = Params::new(seed, kind, device());
    let layer = TemporalAttention::shaw(&mut params.root(), c, shape, distance).unwrap();
    perturb(&params, seed ^ 0xFACE);
    for (i, name) in ["rel_keys.weight", "rel_values.weight"].into_iter().enumerate() {
        let table = &params.get(name).unwrap().tensor;
        table.detach().copy_(&normal(seed ^ (40 + i as u64), &table.size()));
    }
    let weights = Weights::of(&params);
    (layer, weights)
}

/// Keys and values beside those of the frames, b f m n d.
struct Recalled {
    keys: Video,
    values: Video,
}

/// Equations 3 to 5 of the paper, one query after the other, and an upper estimate of the scores.
fn twin(
    x: &Video,
    weights: &Weights,
    (shape, distance): (HeadShape, i64),
    sees: &Sight,
    memory: Option<&Recalled>,
) -> (Video, f64) {
    let (b, f, h, w, _) = x.dim();
    let (heads, d) = (shape.heads as usize, shape.dim as usize);
    let qkv = channels(x, &weights.matrix("to_qkv.weight"), None);
    let tables = ["rel_keys.weight", "rel_values.weight"].map(|name| weights.matrix(name));
    let clipped = |i: usize, j: usize| {
        ((j as i64 - i as i64).max(-distance).min(distance) + distance) as usize
    };
    let mut mixed = Video::zeros((b, f, h, w, heads * d));
    let mut largest = 0f64;
    for ((b, i, row, column), n) in
        ndarray::indices((b, f, h, w)).into_iter().flat_map(|at| (0..heads).map(move |n| (at, n)))
    {
        let part = |which: usize, frame: usize| {
            let first = (which * heads + n) * d;
            qkv.slice(s![b, frame, row, column, first..first + d]).to_owned()
        };
        let q = part(0, i);
        let mut keys: Vec<_> = Vec::new();
        let mut values: Vec<_> = Vec::new();
        for j in (0..f).filter(|j| sees(b, i, *j)) {
            let at = clipped(i, j);
            keys.push(part(1, j) + tables[0].row(at));
            values.push(part(2, j) + tables[1].row(at));
        }
        if let Some(memory) = memory {
            for m in 0..memory.keys.dim().2 {
                keys.push(memory.keys.slice(s![b, i, m, n, ..]).to_owned());
                values.push(memory.values.slice(s![b, i, m, n, ..]).to_owned());
            }
        }
        let scores: Vec<f64> = keys.iter().map(|k| q.dot(k) / (d as f64).sqrt()).collect();
        let bound = |k: &ndarray::Array1<f64>| (q.dot(&q) * k.dot(k) / d as f64).sqrt();
        largest = keys.iter().map(bound).fold(largest, f64::max);
        for (weight, value) in softmax(&scores).into_iter().zip(&values) {
            for e in 0..d {
                mixed[[b, i, row, column, n * d + e]] += weight * value[e];
            }
        }
    }
    (channels(&mixed, &weights.matrix("to_out.weight"), None), largest)
}

/// Videos b f h w c, one frame among them.
fn videos() -> impl Strategy<Value = [i64; 5]> {
    (1i64..=3, 1i64..=7, 1i64..=3, 1i64..=3, 1i64..=7).prop_map(|(b, f, h, w, c)| [b, f, h, w, c])
}

/// Heads of even and odd widths.
fn heads() -> impl Strategy<Value = HeadShape> {
    (1i64..=3, prop::sample::select(vec![1i64, 5, 6, 20]))
        .prop_map(|(heads, dim)| HeadShape { heads, dim })
}

fn mask(variant: u8, (b, f): (i64, i64), seed: u64) -> (FrameMask, Sight) {
    let focus: Vec<bool> = (0..b).map(|k| seed >> k & 1 == 1).collect();
    let clip = 1 + (seed % f as u64) as usize;
    match variant {
        0 => (FrameMask::All, Box::new(|_, _, _| true)),
        1 => {
            let mask = FrameMask::Focus(Tensor::from_slice(&focus).to_device(device()));
            (mask, Box::new(move |b, i, j| !focus[b] || i == j))
        }
        _ => {
            let mask = FrameMask::ClipAndImages { clip: clip as i64 };
            (mask, Box::new(move |_, i, j| i == j || i.max(j) < clip))
        }
    }
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn every_pair_has_the_vectors_of_its_clipped_distance(
        [b, f, h, w, c] in videos(), shape in heads(), distance in 1i64..9, variant in 0u8..3,
        m in 0i64..3, seed: u64,
    ) {
        for kind in KINDS {
            let (layer, weights) = shaw((kind, seed), c, shape, distance);
            let x = normal(seed, &[b, f, h, w, c]).to_kind(kind);
            let (mask, sees) = mask(variant, (b, f), seed);
            let forbidden = mask.forbidden(f, device());
            let size = [b, f, m, shape.heads, shape.dim];
            let [keys, values] = [21, 22].map(|k| normal(seed ^ k, &size).to_kind(kind));
            let recalled = Recalled { keys: video(&keys), values: video(&values) };
            let memory = Memory { keys, values };
            let memory = (m > 0).then_some(&memory);
            let got = layer.forward_with(&x, None, forbidden.as_ref(), memory);

            let recalled = (m > 0).then_some(&recalled);
            let (expected, largest) =
                twin(&video(&x), &weights, (shape, distance), &sees, recalled);
            let allowed = tolerance(kind, c + 2 * shape.dim + f + m + shape.inner(), largest);
            let error = relative(&got, &expected);
            prop_assert!(error <= allowed, "{kind:?}: {error:e} > {allowed:e}");
        }
    }

    #[test]
    fn an_image_beside_a_clip_is_what_it_is_alone(
        [b, f, h, w, c] in videos(), shape in heads(), distance in 1i64..9, seed: u64,
    ) {
        let (layer, _) = shaw((Kind::Double, seed), c, shape, distance);
        let x = normal(seed, &[b, f + 1, h, w, c]);
        let mask = FrameMask::ClipAndImages { clip: f }.forbidden(f + 1, device());
        let both = layer.forward(&x, None, mask.as_ref());
        let clip = layer.forward(&x.narrow(1, 0, f), None, None);
        let image = layer.forward(&x.narrow(1, f, 1), None, None);
        let alone = Tensor::cat(&[clip, image], 1);
        prop_assert!(relative(&both, &array(&alone)) <= 1e-13);
    }

    #[test]
    fn a_vector_that_all_distances_share_is_added_to_what_the_values_give(
        [b, f, h, w, c] in videos(), shape in heads(), seed: u64,
    ) {
        // Equal vectors for all distances move every score of a query alike, and every value by
        // the same: what is left of them is the vector of the values.
        let mut params = Params::new(seed, Kind::Double, device());
        let layer = TemporalAttention::shaw(&mut params.root(), c, shape, 2).unwrap();
        let x = normal(seed, &[b, f, h, w, c]);
        let bias = normal(seed ^ 1, &[shape.heads, f, f]);
        let set = |name: &str, value: &Tensor| {
            let table = &params.get(name).unwrap().tensor;
            table.detach().copy_(&value.expand_as(table));
        };
        let zero = Tensor::zeros([1], (Kind::Double, device()));
        let row = normal(seed ^ 2, &[1, shape.dim]);
        set("rel_keys.weight", &zero);
        set("rel_values.weight", &zero);
        let plain = layer.forward(&x, Some(&bias), None);
        set("rel_keys.weight", &row);
        set("rel_values.weight", &row);
        let moved = layer.forward(&x, Some(&bias), None);
        let to_out = &params.get("to_out.weight").unwrap().tensor;
        let expected = plain + row.repeat([1, shape.heads]).matmul(&to_out.tr()).view([1, 1, 1, 1, c]);
        let error = relative(&moved, &array(&expected));
        prop_assert!(error <= 1e-12, "{error:e}");
    }
}

#[test]
fn tables_start_small_and_normal_beside_the_projections_of_a_layer_without_them() {
    let (shape, seed) = (HeadShape { heads: 2, dim: 64 }, 9);
    let start = |shaw: bool| {
        let mut params = Params::new(seed, Kind::Float, device());
        let layer = if shaw {
            TemporalAttention::shaw(&mut params.root(), 48, shape, 30)
        } else {
            TemporalAttention::new(&mut params.root(), 48, shape)
        };
        layer.unwrap();
        params.tensors()
    };
    let (plain, with) = (start(false), start(true));
    let names: Vec<&str> = with.keys().map(String::as_str).collect();
    assert_eq!(names, ["rel_keys.weight", "rel_values.weight", "to_out.weight", "to_qkv.weight"]);
    for name in ["to_out.weight", "to_qkv.weight"] {
        assert_eq!(plain[name], with[name], "{name}");
    }
    for name in ["rel_keys.weight", "rel_values.weight"] {
        assert_eq!(with[name].size(), [61, 64]);
        let values: Array2<f64> = oracle::matrix(&with[name]) / 0.02;
        let n = values.len() as f64;
        let moment = |p: i32| values.mapv(|v| v.powi(p)).sum() / n;
        // Five standard errors: sqrt(Var(x^p) / n).
        assert!(
            moment(1).abs() < 5.0 / n.sqrt() && (moment(2) - 1.0).abs() < 5.0 * (2.0 / n).sqrt()
        );
        assert!((moment(4) - 3.0).abs() < 5.0 * (96.0 / n).sqrt());
    }
    assert_ne!(with["rel_keys.weight"], with["rel_values.weight"]);
    let mut params = Params::new(seed, Kind::Float, device());
    let refused = TemporalAttention::shaw(&mut params.root(), 48, shape, 0).unwrap_err();
    assert!(refused.to_string().contains("got 0"), "{refused}");
}
