//! Rotary positions against rotations of the plane, pair by pair.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod oracle;

use ndarray::Array1;
use oracle::differences::check;
use oracle::draw::{cases, normal, one_thread};
use oracle::{U32, Weights, array, position, relative, share};
use proptest::prelude::*;
use tch::{Kind, Tensor};
use vd_tensor_ops::Params;
use vd_tensor_ops::layers::{HeadShape, Rotary};
use vd_tensor_ops::torch::testing::device;

/// The layer, and its frequencies.
fn rotary(kind: Kind, width: i64) -> (Rotary, Array1<f64>) {
    one_thread();
    let mut params = Params::new(0, kind, device());
    let layer = Rotary::new(&mut params.root(), width).unwrap();
    (layer, Weights::of(&params).row("freqs"))
}

/// b f s (n d) as rows of d features, with the position of each.
fn heads(x: &Tensor, shape: HeadShape) -> (ndarray::ArrayD<f64>, Vec<usize>) {
    let (size, d) = (x.size(), shape.dim);
    let each = size[2] * shape.heads;
    let rows = size[0] * size[1] * each;
    let times = (0..rows).map(|row| ((row / each) % size[1]) as usize).collect();
    (array(&x.reshape([rows, d])), times)
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn neighbouring_features_turn_by_their_position(
        b in 1i64..3, f in 1i64..40, s in 1i64..4, n in 1i64..4, pairs in 1i64..17, rest in 0i64..9,
        gain in 0.1..2.0f64, seed: u64,
    ) {
        let shape = HeadShape::new(n, 2 * pairs + rest).unwrap();
        for kind in [Kind::Double, Kind::Float] {
            let (layer, freqs) = rotary(kind, 2 * pairs);
            let x = normal(seed, &[b, f, s, n * shape.dim]).to_kind(kind);
            let (mut expected, times) = heads(&x, shape);
            let mut bound = expected.clone();
            let rows = expected.rows_mut().into_iter().zip(bound.rows_mut()).zip(times);
            for ((mut row, mut bounds), time) in rows {
                position::turn(row.as_slice_mut().unwrap(), time, &freqs);
                row.mapv_inplace(|v| v * gain);
                // The angle, its cosine, the gain and the sum of two products round, each relative
                // to the length of the pair, which the length of the head bounds.
                let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
                bounds.fill(length * U32 * (time as f64 + 8.0));
            }
            let got = layer.rotate(&x, shape, &layer.rotations(f, shape, gain));
            prop_assert_eq!(got.size(), x.size());
            let got = got.reshape([-1, shape.dim]);
            match kind {
                Kind::Double => prop_assert!(relative(&got, &expected) <= 1e-13),
                _ => prop_assert!(share(&got, &expected, &bound) <= 1.0),
            }
        }
    }

    #[test]
    fn scores_of_turned_features_depend_on_the_distance_alone(
        f in 2i64..20, n in 1i64..3, pairs in 1i64..17, rest in 0i64..5, seed: u64,
    ) {
        let shape = HeadShape::new(n, 2 * pairs + rest).unwrap();
        let (layer, _) = rotary(Kind::Double, 2 * pairs);
        // One query and one key, the same at every position.
        let draw = |k| normal(seed ^ k, &[1, 1, 1, n * shape.dim]).repeat([1, f, 1, 1]);
        let rotations = layer.rotations(f, shape, 1.0);
        let turned = |x: &Tensor| {
            let turned = layer.rotate(x, shape, &rotations);
            turned.view([f, n, shape.dim]).transpose(0, 1) // n f d
        };
        let scores = turned(&draw(1)).matmul(&turned(&draw(2)).transpose(1, 2)); // n f f
        let size = scores.abs().max().double_value(&[]);
        for distance in 1 - f..f {
            let line = scores.diagonal(distance, 1, 2);
            let spread = (line.amax([1], true) - line.amin([1], true)).max().double_value(&[]);
            prop_assert!(spread <= 1e-13 * (1.0 + size) * f as f64, "{distance}: {spread:e}");
        }
    }
}

#[test]
fn frequencies_are_those_of_the_checkpoints() {
    for width in (2..=32).step_by(2) {
        let (_, got) = rotary(Kind::Float, width);
        // Computed in f32: the exponent, at most 9.3 as a power of e, is rounded, then the power
        // and its reciprocal.
        for (got, exact) in got.iter().zip(&position::frequencies(width as usize)) {
            assert!((got / exact - 1.0).abs() <= 16.0 * U32, "{got} for {exact} of {width}");
        }
    }
}

#[test]
fn gradients_turn_back() {
    for dim in [8, 9] {
        let ((layer, _), shape) = (rotary(Kind::Double, 6), HeadShape { heads: 2, dim });
        let x = normal(2, &[2, 5, 3, 2 * dim]).set_requires_grad(true);
        let rotations = layer.rotations(5, shape, 0.7);
        let leaf = [("input".to_owned(), x.shallow_clone())];
        check("rotary", &leaf, 3, &|| layer.rotate(&x, shape, &rotations).square());
    }
}
