//! Attention along time between its products, over drawn shapes.

use proptest::prelude::*;
use tch::{Kind, Tensor};
use vd_tensor_ops::kernels::cuda::{self, Temporal};
use vd_tensor_ops::layers::HeadShape;

use crate::{bound, device, draw, here, off, rounded};

#[derive(Debug, Clone)]
struct Case {
    kind: Kind,
    /// b f s
    shape: [i64; 3],
    heads: HeadShape,
    /// Pairs of features that turn.
    turned: i64,
    bias: bool,
    /// None, one for all or one for each sample.
    masks: Option<bool>,
    seed: u64,
}

fn case() -> impl Strategy<Value = Case> {
    let kind = prop_oneof![Just(Kind::Float), Just(Kind::BFloat16)];
    let dim = prop_oneof![Just(16i64), Just(32), Just(32), Just(64)];
    let frames = prop_oneof![1i64..6, 1i64..17, 1i64..33];
    let sizes = (1i64..3, frames, 1i64..7, 1i64..5, dim);
    let masks = prop_oneof![Just(None), Just(Some(false)), Just(Some(true))];
    (kind, sizes, any::<bool>(), masks, any::<u64>()).prop_map(
        |(kind, (b, f, s, n, dim), bias, masks, seed)| Case {
            kind,
            shape: [b, f, s],
            heads: HeadShape::new(n, dim).unwrap(),
            turned: [0, 5, dim.min(32) / 2][(seed % 3) as usize],
            bias,
            masks,
            seed,
        },
    )
}

/// Cosine and sine of angles that grow with the frame.
fn turns(f: i64, pairs: i64) -> Tensor {
    let options = (Kind::Double, device());
    let angle =
        Tensor::arange(f, options).unsqueeze(1) * (Tensor::arange(pairs, options) * -0.4).exp();
    Tensor::stack(&[angle.cos(), angle.sin()], -1)
}

/// b f s n d with pairs of features turned.
fn turn(x: &Tensor, turns: &Tensor) -> Tensor {
    let (f, pairs, d) = (turns.size()[0], turns.size()[1], x.size()[4]);
    let first = x.narrow(4, 0, 2 * pairs).unflatten(4, [pairs, 2]);
    let [cos, sin] = [0, 1].map(|i| turns.select(2, i).view([1, f, 1, 1, pairs]));
    let (a, b) = (first.select(5, 0), first.select(5, 1));
    let turned = Tensor::stack(&[&a * &cos - &b * &sin, &a * &sin + &b * &cos], -1).flatten(4, 5);
    Tensor::cat(&[turned, x.narrow(4, 2 * pairs, d - 2 * pairs)], 4)
}

fn plain(
    qkv: &Tensor,
    heads: HeadShape,
    turns: &Tensor,
    (bias, forbidden): (Option<&Tensor>, Option<&Tensor>),
) -> Tensor {
    let parts = qkv.unflatten(3, [3, heads.heads, heads.dim]); // b f s 3 n d
    let [q, k, v] = [0, 1, 2].map(|i| parts.select(3, i));
    let inside = |t: Tensor| t.permute([0, 2, 3, 1, 4]); // b s n f d
    let (q, k) = (inside(turn(&q, turns) * heads.scale()), inside(turn(&k, turns)));
    let mut scores = q.matmul(&k.transpose(-2, -1));
    if let Some(bias) = bias {
        scores += bias;
    }
    if let Some(forbidden) = forbidden {
        scores = scores.masked_fill(forbidden, f64::NEG_INFINITY);
    }
    let out = scores.softmax(-1, Kind::Double).matmul(&inside(v)); // b s n f d
    out.permute([0, 3, 1, 2, 4]).flatten(3, 4)
}

fn check(case: &Case) {
    let Case { kind, shape: [b, f, s], heads, seed, .. } = *case;
    let size = [b, f, s, 3 * heads.inner()];
    let (qkv, wide_qkv) = rounded(&draw(seed ^ 1, &size), kind);
    let bias = case.bias.then(|| draw(seed ^ 2, &[heads.heads, f, f]));
    let forbidden = case.masks.map(|own| {
        let marks = draw(seed ^ 3, &[if own { b } else { 1 }, 1, 1, f, f]).gt(0.5);
        // Every frame sees itself.
        marks.logical_and(&Tensor::eye(f, (Kind::Bool, device())).logical_not())
    });
    let turns = turns(f, case.turned);
    let (grad, wide_grad) = rounded(&draw(seed ^ 4, &[b, f, s, heads.inner()]), kind);

    let leaf = |t: &Tensor| t.detach().to_kind(Kind::Double).set_requires_grad(true);
    let (want_qkv, want_bias) = (leaf(&wide_qkv), bias.as_ref().map(leaf));
    let want = plain(&want_qkv, heads, &turns, (want_bias.as_ref(), forbidden.as_ref()));
    (&want * &wide_grad).sum(Kind::Double).backward();

    let own = |t: &Tensor| t.detach().set_requires_grad(true);
    let (qkv, bias) = (own(&qkv), bias.as_ref().map(own));
    let turns = turns.to_kind(Kind::Float);
    let got = here(|| {
        let of = Temporal { turns: &turns, bias: bias.as_ref(), forbidden: forbidden.as_ref() };
        let on = cuda::temporal_fits(&qkv, heads, &of).expect("a kernel");
        cuda::temporal(&on, &qkv, heads, &of)
    });
    assert_eq!(got.kind(), kind);
    assert!(off(&got, &want) < bound(kind, 1e-5), "{:e} of {case:?}", off(&got, &want));

    (&got * &grad).sum(kind).backward();
    let error = off(&qkv.grad(), &want_qkv.grad());
    assert!(error < bound(kind, 1e-4), "gradient of qkv: {error:e} of {case:?}");
    if let (Some(bias), Some(want)) = (bias, want_bias) {
        // One frame has one weight, which is 1 whatever the score.
        let error = (bias.grad().to_kind(Kind::Double) - want.grad()).norm().double_value(&[])
            / want.grad().norm().double_value(&[]).max(1e-2);
        assert!(error < bound(kind, 1e-4), "gradient of the bias: {error:e} of {case:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn attention_along_time_and_its_gradients_are_those_of_libtorch(case in case()) {
        check(&case);
    }
}

#[test]
fn clips_of_the_networks_of_the_package_and_more_units_than_a_block_has() {
    for (f, dim) in [(10, 32), (16, 32), (32, 64), (20, 16)] {
        for kind in [Kind::Float, Kind::BFloat16] {
            check(&Case {
                kind,
                shape: [2, f, 9],
                heads: HeadShape::new(8, dim).unwrap(),
                turned: dim.min(32) / 2,
                bias: true,
                masks: Some(true),
                seed: f as u64,
            });
        }
    }
}

#[test]
fn a_bias_that_wants_no_gradient_has_none() {
    let heads = HeadShape::new(2, 16).unwrap();
    let qkv = draw(3, &[1, 4, 3, 96]).set_requires_grad(true);
    let (bias, turns) = (draw(4, &[2, 4, 4]), turns(4, 8).to_kind(Kind::Float));
    let got = here(|| {
        let of = Temporal { turns: &turns, bias: Some(&bias), forbidden: None };
        cuda::temporal(&cuda::temporal_fits(&qkv, heads, &of).unwrap(), &qkv, heads, &of)
    });
    got.sum(Kind::Float).backward();
    assert!(qkv.grad().defined() && !bias.grad().defined());
}

#[test]
fn what_no_kernel_takes_is_left_to_libtorch() {
    let turns = |f| turns(f, 8).to_kind(Kind::Float);
    let fits = |f: i64, dim: i64, kind: Kind| {
        let heads = HeadShape::new(2, dim).unwrap();
        let qkv = draw(1, &[1, f, 2, 6 * dim]).to_kind(kind);
        let turns = turns(f);
        let of = Temporal { turns: &turns, bias: None, forbidden: None };
        here(|| cuda::temporal_fits(&qkv, heads, &of).is_some())
    };
    assert!(fits(32, 32, Kind::Float) && fits(1, 64, Kind::BFloat16));
    assert!(!fits(33, 32, Kind::Float) && !fits(8, 24, Kind::Float));
    assert!(!fits(8, 32, Kind::Double) && !fits(8, 32, Kind::Half));
}
