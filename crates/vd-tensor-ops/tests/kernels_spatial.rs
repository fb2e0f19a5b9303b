//! The kernel of full attention over space against libtorch in f64, over drawn shapes, for every set
//! of instructions that the machine has.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod drawn;

use std::sync::Arc;

use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Params;
use vd_tensor_ops::kernels::cpu::{
    Isa, SpatialCache, SpatialGrads, SpatialWeights, spatial, spatial_attention,
    spatial_attention_backward, spatial_fits,
};
use vd_tensor_ops::kernels::{Precision, with};
use vd_tensor_ops::layers::{HeadShape, LayerNorm, SpatialAttention};

use drawn::{draw, error};

fn norm(t: &Tensor) -> f64 {
    t.norm().double_value(&[])
}

#[derive(Debug, Clone)]
struct Case {
    shape: [i64; 5],
    heads: HeadShape,
    seed: u64,
    /// Standard deviation of what the scores are made of.
    spread: f64,
    bias: bool,
}

fn case() -> impl Strategy<Value = Case> {
    // Up to 361 sites: one block of queries and keys and several, whole ones and parts.
    let side = || prop_oneof![Just(1i64), 1i64..6, 1i64..20];
    let shape = (1i64..3, 1i64..4, side(), side(), (1i64..4).prop_map(|k| 16 * k));
    let heads = (1i64..5, prop_oneof![Just(32i64), Just(1), 1i64..40]);
    let spread = prop_oneof![Just(1.0), Just(0.1), Just(4.0)];
    (shape, heads, any::<u64>(), spread, any::<bool>()).prop_map(
        |((b, f, h, w, c), (heads, dim), seed, spread, bias)| Case {
            shape: [b, f, h, w, c],
            heads: HeadShape { heads, dim },
            seed,
            spread,
            bias,
        },
    )
}

/// Input, gain, projections and bias, as drawn.
struct Operands(Vec<Tensor>);

impl Operands {
    fn draw(case: &Case) -> Self {
        let [_, _, h, w, c] = case.shape;
        let (seed, HeadShape { heads, dim }) = (case.seed, case.heads);
        let (sites, inner) = (h * w, heads * dim);
        let mut all = vec![
            draw(seed ^ 5, &case.shape) * 2.0 + 0.5,
            draw(seed ^ 1, &[1, c, 1, 1, 1]) * 0.3 + 1.0,
            draw(seed ^ 2, &[3 * inner, c]) * (case.spread / (c as f64).sqrt()),
            draw(seed ^ 3, &[c, inner]) / (inner as f64).sqrt(),
        ];
        if case.bias {
            all.push(draw(seed ^ 4, &[heads, sites, sites]));
        }
        Operands(all)
    }

    fn weights<'a>(&'a self, case: &Case, cache: &'a Arc<SpatialCache>) -> SpatialWeights<'a> {
        let [_, gamma, to_qkv, to_out, ..] = &self.0[..] else { unreachable!("four at least") };
        SpatialWeights { gamma, to_qkv, to_out, shape: case.heads, cache }
    }

    fn forward(&self, isa: Isa, case: &Case) -> Tensor {
        let cache = Arc::default();
        spatial_attention(isa, &self.0[0], &self.weights(case, &cache), self.0.get(4))
    }

    fn backward(&self, isa: Isa, case: &Case, grad: &Tensor) -> SpatialGrads {
        let (cache, x) = (Arc::default(), &self.0[0]);
        spatial_attention_backward(isa, (x, grad), &self.weights(case, &cache), self.0.get(4))
    }
}

/// What the attention adds to x, by operations of libtorch, each score in memory.
fn plain(all: &[Tensor], heads: HeadShape) -> Tensor {
    let [x, gamma, to_qkv, to_out, bias @ ..] = all else { unreachable!("four at least") };
    let (size, gamma) = (x.size(), gamma.flatten(0, -1));
    let normal = x.layer_norm([size[4]], Some(&gamma), None, 1e-5, false);
    let qkv = normal.flatten(2, 3).flatten(0, 1).linear(to_qkv, None::<&Tensor>);
    let parts = qkv.unflatten(-1, [3, heads.heads, heads.dim]);
    let [q, k, v] = [0, 1, 2].map(|i| parts.select(-3, i).transpose(1, 2)); // i n s d
    let mut scores = q.matmul(&k.transpose(2, 3)) * heads.scale();
    if let [bias] = bias {
        scores += bias;
    }
    let out = scores.softmax(-1, x.kind()).matmul(&v);
    out.transpose(1, 2).flatten(2, 3).linear(to_out, None::<&Tensor>).view(size.as_slice())
}

fn check(case: &Case) {
    let operands = Operands::draw(case);
    let wide: Vec<_> = operands.0.iter().map(|t| t.to_kind(Kind::Double)).collect();
    let more = plain(&wide, case.heads);
    let want = &wide[0] + &more;
    for isa in Isa::tested() {
        assert!(spatial_fits(isa, case.shape[4]));
        let y = operands.forward(isa, case);
        // Measured, the worst of some 90 cases: 9e-7.
        let whole = error(&y, &want);
        assert!(whole < 1e-5, "{isa}: {whole:e} of {case:?}");
        // What is added is compared too, for x would hide it; but the sum is rounded, by 2^-24 of
        // it at most.
        let off = norm(&(y.to_kind(Kind::Double) - &want));
        let bound = 1e-5 * norm(&more) + 6e-8 * norm(&want);
        assert!(off < bound, "{isa}: off by {off:e} > {bound:e} of {case:?}");
    }
}

/// A gradient: its name, ours, that of f64, and what it is a part of.
type Pair = (&'static str, Tensor, Tensor, f64);

fn gradients(case: &Case, isa: Isa) -> Vec<Pair> {
    let operands = Operands::draw(case);
    let grad = draw(case.seed ^ 6, &case.shape) + 0.3;
    let leaves = operands.0.iter().map(|t| t.to_kind(Kind::Double).set_requires_grad(true));
    let leaves: Vec<_> = leaves.collect();
    ((&leaves[0] + plain(&leaves, case.heads)) * &grad).sum(Kind::Double).backward();
    let mut want: Vec<_> = leaves.iter().map(Tensor::grad).collect();
    let SpatialGrads { x, gamma, to_qkv, to_out, bias } = operands.backward(isa, case, &grad);
    let mut got = vec![x, gamma, to_qkv, to_out];
    got.extend(bias);
    assert_eq!(got.len(), want.len());
    // The residual's part of the gradient of x would hide the rest.
    got[0] -= &grad;
    want[0] -= &grad;
    // A softmax of one site has the gradient 0, which comes out as the rounding of a difference, so
    // queries, keys and the bias are seen beside the gradient that the values have.
    let of = norm(&want[2]);
    let inner = case.heads.inner();
    let mut all = Vec::new();
    for (part, name) in (0..).zip(["queries", "keys", "values"]) {
        let [got, want] = [&got[2], &want[2]].map(|t| t.narrow(0, part * inner, inner));
        all.push((name, got, want, of));
    }
    for (i, name) in [(0, "x"), (1, "gamma"), (3, "to_out")] {
        let of = norm(&want[i]);
        all.push((name, got[i].shallow_clone(), want[i].shallow_clone(), of));
    }
    if let (Some(got), Some(want)) = (got.get(4), want.get(4)) {
        all.push(("bias", got.shallow_clone(), want.shallow_clone(), norm(&grad)));
    }
    all
}

fn check_gradients(case: &Case) {
    for isa in Isa::tested() {
        for (name, got, want, of) in gradients(case, isa) {
            assert_eq!(got.size(), want.size());
            let off = norm(&(got.to_kind(Kind::Double) - &want));
            // Measured, the worst of some 90 cases: 5e-6 of the gradient; those of queries, keys and bias
            // may be differences that cancel, 2.4e-6 of what they are differences of.
            let bound = 1e-4 * norm(&want) + 2e-6 * of;
            assert!(
                off <= bound,
                "{isa}: gradient of {name} off by {off:e} > {bound:e} of {case:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn attention_is_that_of_libtorch(case in case()) {
        check(&case);
    }

    #[test]
    fn gradients_are_those_of_libtorch(case in case()) {
        check_gradients(&case);
    }
}

#[test]
fn one_site_one_feature_and_frames_beyond_a_block_are_no_special_cases() {
    for (i, (h, w)) in (1..).zip([(1, 1), (1, 17), (5, 3), (16, 16), (1, 64), (1, 65), (19, 20)]) {
        for (dim, bias) in [(1, true), (32, false)] {
            let heads = HeadShape { heads: 2, dim };
            let case = Case { shape: [1, 2, h, w, 16], heads, seed: 77 * i, spread: 1.0, bias };
            check(&case);
            check_gradients(&case);
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let threads = vd_tensor_ops::torch::threads();
    for (shape, bias) in [([1, 1, 12, 12, 32], true), ([1, 5, 9, 9, 16], false)] {
        let heads = HeadShape { heads: 3, dim: 8 };
        let case = Case { shape, heads, seed: 11, spread: 1.0, bias };
        let (operands, grad) = (Operands::draw(&case), draw(12, &shape));
        let [one, two, five] = [1, 2, 5].map(|count| {
            vd_tensor_ops::torch::set_threads(count);
            let y = operands.forward(Isa::current(), &case);
            let of = operands.backward(Isa::current(), &case, &grad);
            let mut all = vec![y, of.x, of.gamma, of.to_qkv, of.to_out];
            all.extend(of.bias);
            all
        });
        assert_eq!(one, two);
        assert_eq!(one, five);
    }
    vd_tensor_ops::torch::set_threads(threads);
}

#[test]
fn changed_weights_are_packed_again() {
    let heads = HeadShape { heads: 2, dim: 8 };
    let case = Case { shape: [1, 2, 4, 4, 16], heads, seed: 3, spread: 1.0, bias: false };
    let mut operands = Operands::draw(&case);
    let (isa, cache) = (Isa::current(), Arc::default());
    for changed in [1, 2, 3] {
        let _ = operands.0[changed].g_mul_scalar_(1.5);
        let weights = operands.weights(&case, &cache);
        let again = spatial_attention(isa, &operands.0[0], &weights, None);
        assert_eq!(again, operands.forward(isa, &case));
    }
}

#[test]
fn scores_far_apart_leave_the_largest() {
    // Exponents of a plain softmax would overflow: the maxima that grow keep them below 1.
    let heads = HeadShape { heads: 1, dim: 16 };
    let case = Case { shape: [1, 1, 10, 10, 16], heads, seed: 8, spread: 1.0, bias: true };
    let mut operands = Operands::draw(&case);
    let sites = Tensor::arange(100, (Kind::Float, Device::Cpu)) * 50.0;
    operands.0[4] = sites.view([1, 1, 100]).repeat([1, 100, 1]);
    let wide: Vec<_> = operands.0.iter().map(|t| t.to_kind(Kind::Double)).collect();
    let want = &wide[0] + plain(&wide, heads);
    for isa in Isa::tested() {
        let off = error(&operands.forward(isa, &case), &want);
        assert!(off < 1e-5, "{isa}: {off:e}");
    }
}

/// What `run` gives and its gradients, of the first input, the bias and the parameters.
fn with_gradients(
    (x, bias, grad): (&Tensor, Option<&Tensor>, &Tensor),
    params: &Params,
    run: impl Fn(&Tensor, Option<&Tensor>) -> Tensor,
) -> Vec<Tensor> {
    let leaf = x.copy().set_requires_grad(true);
    let bias = bias.map(|bias| bias.copy().set_requires_grad(true));
    let y = run(&leaf, bias.as_ref());
    (&y * grad).sum(Kind::Float).backward();
    let mut all = vec![y.detach(), leaf.grad()];
    all.extend(bias.iter().map(Tensor::grad));
    for (_, param) in params.iter() {
        all.push(param.tensor.grad().copy());
        let _ = param.tensor.grad().zero_();
    }
    all
}

#[test]
fn layer_and_differentiable_kernel_are_libtorchs_operations() {
    let heads = HeadShape { heads: 2, dim: 8 };
    for (bias, seed) in [(true, 21), (false, 22)] {
        let mut params = Params::new(5, Kind::Float, Device::Cpu);
        let mut root = params.root();
        let norm = LayerNorm::new(&mut root.sub("norm"), 16).unwrap();
        let layer = SpatialAttention::new(&mut root.sub("fn"), 16, heads).unwrap();
        let (x, grad) = (draw(seed, &[1, 2, 5, 3, 16]), draw(seed ^ 1, &[1, 2, 5, 3, 16]));
        let bias = bias.then(|| draw(seed ^ 2, &[2, 15, 15]));
        let given = (&x, bias.as_ref(), &grad);
        let want = with_gradients(given, &params, |x, bias| {
            with(Precision::Reference, || layer.residual(&norm, x, bias))
        });
        let named: Vec<_> = params.iter().map(|(_, param)| param.tensor.shallow_clone()).collect();
        let of = |size: &[i64]| named.iter().find(|t| t.size() == size).unwrap();
        let (gamma, to_qkv, to_out) = (of(&[1, 16, 1, 1, 1]), of(&[48, 16]), of(&[16, 16]));
        let cache = &Arc::default();
        let weights = SpatialWeights { gamma, to_qkv, to_out, shape: heads, cache };
        let got =
            with_gradients(given, &params, |x, bias| spatial(Isa::current(), x, &weights, bias));
        assert_eq!((want.len(), got.len()), (5 + bias.iter().len(), want.len()));
        let alone = tch::no_grad(|| layer.residual(&norm, &x, bias.as_ref()));
        for (got, want) in got.iter().chain([&alone]).zip(want.iter().chain([&want[0]])) {
            let off = error(got, &want.to_kind(Kind::Double));
            assert!(off < 1e-5, "{off}");
        }
    }
}
