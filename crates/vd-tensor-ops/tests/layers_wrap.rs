//! Convolutions over frames whose axes are rings, against libtorch's circular padding.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod oracle;

use oracle::build::{build, tolerance};
use oracle::draw::{cases, normal};
use oracle::{array, relative};
use proptest::prelude::*;
use tch::{Kind, Tensor};
use vd_tensor_ops::kernels::{Precision, with};
use vd_tensor_ops::layers::{ConvBlock, NormKind, ScaleShift, SpaceConv, SpaceDown, SpaceUp, Wrap};
use vd_tensor_ops::torch::testing;

/// Both roads: f64, and the kernels of f32.
const ROADS: [(Kind, Precision); 3] = [
    (Kind::Double, Precision::Reference),
    (Kind::Float, Precision::Exact),
    (Kind::Float, Precision::F32),
];

fn wraps() -> impl Strategy<Value = Wrap> {
    (any::<bool>(), any::<bool>()).prop_map(|(height, width)| Wrap { height, width })
}

/// Frames that are mostly not square: b f h w.
fn frames() -> impl Strategy<Value = [i64; 4]> {
    (1i64..=2, 1i64..=3, 1i64..=6, 1i64..=6).prop_map(|(b, f, h, w)| [b, f, h, w])
}

/// x in f64 with `n` positions around it: the other side's, or zeros; (b f) c h w.
fn padded(x: &Tensor, n: i64, wrap: Wrap) -> Tensor {
    let x = x.detach().to_kind(Kind::Double).flatten(0, 1).permute([0, 3, 1, 2]);
    let mode = |ring: bool| if ring { "circular" } else { "constant" };
    // Circular padding takes all axes at once: a pad of 0 leaves an axis alone.
    x.pad([n, n, 0, 0], mode(wrap.width), None).pad([0, 0, n, n], mode(wrap.height), None)
}

/// The way back of the layout.
fn video(images: &Tensor, f: i64) -> Tensor {
    images.permute([0, 2, 3, 1]).unflatten(0, [-1, f])
}

/// Weight o i k k and bias in f64.
fn parameters(weights: &oracle::Weights) -> (Tensor, Tensor) {
    let tensor = |name: &str| oracle::tensor(weights.get(name));
    (tensor("weight").squeeze_dim(2), tensor("bias"))
}

/// Rounding of sums of so many products; Winograd's is some times larger.
fn allowed(kind: Kind, precision: Precision, terms: i64) -> f64 {
    tolerance(kind, if precision == Precision::F32 { 8 * (terms + 32) } else { terms }, 0.0)
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn a_convolution_of_a_ring_is_that_of_the_frame_padded_by_itself(
        [b, f, h, w] in frames(), (c, out) in (1i64..3, 1i64..3), half in 0i64..4, wrap in wraps(),
        seed: u64,
    ) {
        let (c, out) = (8 * c, 8 * out);
        // libtorch refuses to go round more than once.
        let (h, w) = (h.max(half), w.max(half));
        for (kind, precision) in ROADS {
            let (layer, weights) =
                build(kind, seed, |s| SpaceConv::new(s, c, out, 2 * half + 1).map(|l| l.wrapped(wrap)));
            let x = normal(seed, &[b, f, h, w, c]).to_kind(kind);
            let got = with(precision, || layer.forward(&x));
            let (weight, bias) = parameters(&weights);
            let images = padded(&x, half, wrap);
            let expected = images.conv2d(&weight, Some(&bias), [1, 1], [0, 0], [1, 1], 1);
            let error = relative(&got, &array(&video(&expected, f)));
            let allowed = allowed(kind, precision, c * (2 * half + 1).pow(2));
            prop_assert!(got.is_contiguous() && error <= allowed, "{kind:?} {precision}: {error:e}");
        }
    }

    #[test]
    fn halving_a_ring_is_that_of_the_frame_padded_by_itself(
        [b, f, h, w] in frames(), c in 1i64..3, wrap in wraps(), seed: u64,
    ) {
        let (c, h, w) = (8 * c, h + 1, w + 1);
        for (kind, precision) in ROADS {
            let (layer, weights) = build(kind, seed, |s| SpaceDown::new(s, c).map(|l| l.wrapped(wrap)));
            let x = normal(seed, &[b, f, h, w, c]).to_kind(kind);
            let got = with(precision, || layer.forward(&x));
            prop_assert_eq!(got.size(), [b, f, h / 2, w / 2, c]);
            let (weight, bias) = parameters(&weights);
            let expected = padded(&x, 1, wrap).conv2d(&weight, Some(&bias), [2, 2], [0, 0], [1, 1], 1);
            let error = relative(&got, &array(&video(&expected, f)));
            prop_assert!(error <= allowed(kind, precision, 16 * c), "{kind:?} {precision}: {error:e}");
        }
    }

    #[test]
    fn doubling_a_ring_is_the_transpose_of_halving_it(
        [b, f, h, w] in frames(), c in 1i64..3, wrap in wraps(), seed: u64,
    ) {
        let c = 8 * c;
        for (kind, precision) in ROADS {
            let (up, weights) = build(kind, seed, |s| SpaceUp::new(s, c).map(|l| l.wrapped(wrap)));
            let x = normal(seed, &[b, f, h, w, c]).to_kind(kind);
            let got = with(precision, || up.forward(&x));
            prop_assert_eq!(got.size(), [b, f, 2 * h, 2 * w, c]);
            // The gradient of the strided convolution of a padded frame, in f64.
            let (weight, bias) = parameters(&weights);
            let large = normal(seed ^ 1, &[b, f, 2 * h, 2 * w, c]).set_requires_grad(true);
            let images = large.flatten(0, 1).permute([0, 3, 1, 2]);
            let mode = |ring: bool| if ring { "circular" } else { "constant" };
            let images = images.pad([1, 1, 0, 0], mode(wrap.width), None);
            let images = images.pad([0, 0, 1, 1], mode(wrap.height), None);
            let small = images.conv2d(&weight, None::<&Tensor>, [2, 2], [0, 0], [1, 1], 1);
            let value = (video(&small, f) * x.to_kind(Kind::Double)).sum(Kind::Double);
            let expected = Tensor::run_backward(&[value], &[&large], false, false).remove(0) + bias;
            let error = relative(&got, &array(&expected));
            prop_assert!(error <= allowed(kind, precision, 16 * c), "{kind:?} {precision}: {error:e}");
        }
    }

    #[test]
    fn a_block_follows_a_frame_that_is_rolled_along_its_rings(
        [b, f, h, w] in frames(), wrap in wraps(), shift in 1i64..5, grouped: bool, seed: u64,
    ) {
        let c = 16;
        let norm = if grouped { NormKind::Group { groups: 4 } } else { NormKind::Rms };
        for (kind, precision) in ROADS {
            let (layers, _) = build(kind, seed, |s| {
                Ok((
                    ConvBlock::new(&mut s.sub("block"), 2 * c, c, norm)?.wrapped(wrap),
                    SpaceDown::new(&mut s.sub("down"), c)?.wrapped(wrap),
                    SpaceUp::new(&mut s.sub("up"), c)?.wrapped(wrap),
                ))
            });
            let draw = |k: u64, size: &[i64]| normal(seed ^ k, size).to_kind(kind);
            let size = [b, f, 2 * h, 2 * w, c];
            let all = [1, 2, 3].map(|k| draw(k, &size));
            let [scale, shift_by] = [4, 5].map(|k| draw(k, &[b, f, 1, 1, c]) * 0.3);
            let film = ScaleShift { scale, shift: shift_by };
            let roll = |x: &Tensor| {
                // Halving follows even steps.
                let step = |ring: bool| if ring { 2 * shift } else { 0 };
                x.roll([step(wrap.height), step(wrap.width)], [2, 3])
            };
            let run = |[x, skip, residual]: &[Tensor; 3]| {
                with(precision, || {
                    let y = layers.0.forward(&[x, skip], Some(&film), Some(residual));
                    layers.2.forward(&layers.1.forward(&y))
                })
            };
            let expected = roll(&run(&all));
            let got = run(&all.each_ref().map(roll));
            let error = relative(&got, &array(&expected));
            // Roundings of three convolutions, of 288 products at most, and a norm; Winograd's are some
            // times larger.
            let allowed = if kind == Kind::Double { 1e-13 } else { testing::tolerance(1e-5) };
            prop_assert!(error <= allowed, "{kind:?} {precision}: {error:e}");
        }
    }

    #[test]
    fn a_frame_smaller_than_its_border_is_a_period_of_a_larger_one(
        (h, w) in (1i64..3, 1i64..3), c in 1i64..4, half in 1i64..5, seed: u64,
    ) {
        let wrap = Wrap { height: true, width: true };
        let (layer, _) = build(Kind::Double, seed, |s| {
            SpaceConv::new(s, c, 3, 2 * half + 1).map(|layer| layer.wrapped(wrap))
        });
        let x = normal(seed, &[1, 2, h, w, c]);
        let large = layer.forward(&x.repeat([1, 1, 6, 6, 1]));
        let error = relative(&layer.forward(&x), &array(&large.narrow(2, 0, h).narrow(3, 0, w)));
        prop_assert!(error <= 1e-13, "{error:e}");
    }
}

#[test]
fn without_a_ring_nothing_changes() {
    for (kind, precision) in ROADS {
        let (layer, _) = build(kind, 3, |s| SpaceConv::new(s, 16, 16, 3));
        let x = normal(4, &[1, 2, 5, 6, 16]).to_kind(kind);
        let plain = with(precision, || layer.forward(&x));
        let flat = layer.wrapped(Wrap::default());
        assert_eq!(with(precision, || flat.forward(&x)), plain);
    }
}
