//! The kernel of linear attention against libtorch in f64, over drawn shapes, for every set of
//! instructions that the machine has.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod drawn;

use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Params;
use vd_tensor_ops::kernels::cpu::{
    Isa, LinearAttentionCache, LinearAttentionWeights, linear_attention, linear_attention_backward,
    linear_attention_fits,
};
use vd_tensor_ops::kernels::{Precision, with};
use vd_tensor_ops::layers::{HeadShape, LayerNorm, SpatialLinearAttention};

use drawn::{draw, error};

/// Gain, projections and bias, as drawn.
struct Parameters([Tensor; 4]);

impl Parameters {
    /// `spread`: standard deviation of the scores.
    fn draw(seed: u64, c: i64, heads: HeadShape, spread: f64) -> Self {
        let inner = heads.inner();
        Parameters([
            draw(seed ^ 1, &[1, c, 1, 1, 1]) * 0.3 + 1.0,
            draw(seed ^ 2, &[3 * inner, c, 1, 1]) * (spread / (c as f64).sqrt()),
            draw(seed ^ 3, &[c, inner, 1, 1]) / (heads.heads as f64).sqrt(),
            draw(seed ^ 4, &[c]),
        ])
    }

    fn weights(&self) -> LinearAttentionWeights<'_> {
        let [gamma, to_qkv, to_out, bias] = &self.0;
        LinearAttentionWeights { gamma, to_qkv, to_out, bias }
    }

    fn wide(&self) -> [Tensor; 4] {
        [0, 1, 2, 3].map(|i| self.0[i].to_kind(Kind::Double))
    }
}

/// What the attention adds to x, in f64.
fn plain(x: &Tensor, [gamma, to_qkv, to_out, bias]: &[Tensor; 4], heads: HeadShape) -> Tensor {
    let size = x.size();
    let flat = |t: &Tensor| t.flatten(1, -1);
    let gamma = gamma.flatten(0, -1);
    let normal = x.layer_norm([size[4]], Some(&gamma), None, 1e-5, false);
    let qkv = normal.flatten(2, 3).flatten(0, 1).linear(&flat(to_qkv), None::<&Tensor>);
    let parts = qkv.unflatten(-1, [3, heads.heads, heads.dim]);
    let [q, k, v] = [0, 1, 2].map(|i| parts.select(-3, i).transpose(1, 2)); // i n s d
    let (q, k) = (q.softmax(-1, Kind::Double) * heads.scale(), k.softmax(2, Kind::Double));
    let out = q.matmul(&k.transpose(2, 3).matmul(&v)); // i n s e
    out.transpose(1, 2).flatten(2, 3).linear(&flat(to_out), Some(bias)).view(size.as_slice())
}

#[derive(Debug, Clone)]
struct Case {
    shape: [i64; 5],
    heads: HeadShape,
    seed: u64,
    /// Standard deviation of the scores.
    spread: f64,
}

fn case() -> impl Strategy<Value = Case> {
    // Sides up to 18 with 16 to 48 channels: more and fewer sites than channels, and more than the
    // kernel takes at a time.
    let side = || prop_oneof![Just(1i64), 1i64..6, 1i64..19];
    let shape = (1i64..3, 1i64..4, side(), side(), (1i64..4).prop_map(|k| 16 * k));
    let heads = (1i64..5, prop_oneof![Just(32i64), Just(1), 1i64..40]);
    let spread = prop_oneof![Just(1.0), Just(0.1), Just(30.0)];
    (shape, heads, any::<u64>(), spread).prop_map(
        |((b, f, h, w, c), (heads, dim), seed, spread)| Case {
            shape: [b, f, h, w, c],
            heads: HeadShape { heads, dim },
            seed,
            spread,
        },
    )
}

fn check(case: &Case) {
    let c = case.shape[4];
    let parameters = Parameters::draw(case.seed, c, case.heads, case.spread);
    let x = draw(case.seed ^ 5, &case.shape) * 2.0 + 0.5;
    let wide = x.to_kind(Kind::Double);
    let more = plain(&wide, &parameters.wide(), case.heads);
    // What is added is compared too, for x would hide it. Scores of 30 and more carry the rounding
    // of f32 into their exponentials: measured with libtorch's own f32, 1e-5.
    let bound = if case.spread > 10.0 { 1e-4 } else { 1e-5 };
    for isa in Isa::tested() {
        assert!(linear_attention_fits(isa, c));
        let cache = LinearAttentionCache::default();
        let y = linear_attention(isa, &x, &parameters.weights(), &cache, case.heads);
        let whole = error(&y, &(&wide + &more));
        assert!(whole < bound, "{isa}: {whole} of {case:?}");
        let added = error(&(y - &x), &more);
        assert!(added < bound, "{isa}: {added} added of {case:?}");
    }
}

/// Of x, gain, projections and bias.
fn check_gradients(case: &Case) {
    let c = case.shape[4];
    let parameters = Parameters::draw(case.seed, c, case.heads, case.spread);
    let x = draw(case.seed ^ 5, &case.shape) * 2.0 + 0.5;
    let grad = draw(case.seed ^ 6, &case.shape) + 0.3;
    let wide = parameters.wide().map(|t| t.set_requires_grad(true));
    let leaf = x.to_kind(Kind::Double).set_requires_grad(true);
    (((&leaf + plain(&leaf, &wide, case.heads)) * &grad).sum(Kind::Double)).backward();
    let [gamma, to_qkv, to_out, bias] = wide.map(|t| t.grad());
    let all = [leaf.grad(), gamma, to_qkv, to_out, bias];
    let inner = case.heads.inner();
    for isa in Isa::tested() {
        let cache = LinearAttentionCache::default();
        let weights = parameters.weights();
        let got = linear_attention_backward(isa, (&x, &grad), &weights, &cache, case.heads);
        let to_qkv = [&got.to_qkv, &all[2]];
        // The three projections each, for their gradients differ in size.
        for (part, name) in (0..).zip(["queries", "keys", "values"]) {
            let [got, want] = to_qkv.map(|t| t.narrow(0, part * inner, inner));
            close(&got, &want, to_qkv[1], (isa, name, case));
        }
        let x_grads = (&got.x - &grad, &all[0] - &grad);
        close(&x_grads.0, &x_grads.1, &all[0], (isa, "x", case));
        close(&got.gamma, &all[1], &all[1], (isa, "gamma", case));
        close(&got.to_out, &all[3], &all[3], (isa, "to_out", case));
        close(&got.bias, &all[4], &all[4], (isa, "bias", case));
    }
}

/// Within 1e-4 of the norm of `want`, or, times the spread of the scores and values, within 1e-6 of
/// that of `of`, what it is a part of: a softmax of one entry has the gradient 0, which comes out as
/// the rounding of a difference.
fn close(got: &Tensor, want: &Tensor, of: &Tensor, (isa, name, case): (Isa, &str, &Case)) {
    let norm = |t: &Tensor| t.norm().double_value(&[]);
    assert_eq!(got.size(), want.size());
    let off = norm(&(got.to_kind(Kind::Double) - want));
    let bound = 1e-4 * norm(want) + 1e-6 * case.spread.max(1.0) * norm(of);
    assert!(off <= bound, "{isa}: gradient of {name} off by {off:e} > {bound:e} of {case:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn bf16_is_off_by_the_rounding_of_operands(case in case()) {
        let c = case.shape[4];
        let spread = case.spread.min(1.0);
        let parameters = Parameters::draw(case.seed, c, case.heads, spread);
        let x = draw(case.seed ^ 5, &case.shape) * 2.0 + 0.5;
        let want = plain(&x.to_kind(Kind::Double), &parameters.wide(), case.heads);
        for isa in Isa::tested() {
            let cache = LinearAttentionCache::default();
            let run = || linear_attention(isa, &x, &parameters.weights(), &cache, case.heads);
            let off = error(&(with(Precision::Bf16, run) - &x), &want);
            // Measured: up to 2.6e-3.
            prop_assert!(off < 6e-3, "{isa}: {off} added of {case:?}");
        }
    }

    #[test]
    fn linear_attention_is_that_of_libtorch(case in case()) {
        check(&case);
    }

    #[test]
    fn gradients_are_those_of_libtorch(case in case()) {
        check_gradients(&case);
    }
}

#[test]
fn one_site_one_frame_and_one_feature_are_no_special_cases() {
    for (i, (h, w)) in (1..).zip([(1, 1), (1, 17), (5, 3), (16, 16), (13, 19)]) {
        for dim in [1, 32] {
            let heads = HeadShape { heads: 2, dim };
            check(&Case { shape: [1, 1, h, w, 16], heads, seed: 77 * i, spread: 1.0 });
        }
    }
}

#[test]
fn a_team_shares_the_frames_that_are_left_over() {
    // Five frames over a team of three: three frames alone, two together.
    let threads = vd_tensor_ops::torch::threads();
    vd_tensor_ops::torch::set_threads(3);
    let heads = HeadShape { heads: 4, dim: 8 };
    for (side, seed) in [(20, 11), (3, 12), (6, 13)] {
        let case = Case { shape: [1, 5, side, side, 32], heads, seed, spread: 1.0 };
        check(&case);
        check_gradients(&case);
    }
    vd_tensor_ops::torch::set_threads(threads);
}

#[test]
fn few_sites_of_many_images_go_through_in_blocks() {
    // 450 sites and 490 of fewer sites an image than channels: more than a block holds, and a last
    // one that is not full; heads that are no whole vectors.
    let threads = vd_tensor_ops::torch::threads();
    for (members, dim) in [(1, 32), (2, 5), (3, 1), (3, 12)] {
        vd_tensor_ops::torch::set_threads(members);
        let heads = HeadShape { heads: 3, dim };
        for (shape, seed) in [([1, 50, 3, 3, 48], 31), ([5, 14, 1, 7, 32], 32)] {
            let case = Case { shape, heads, seed, spread: 1.0 };
            check(&case);
            check_gradients(&case);
        }
    }
    vd_tensor_ops::torch::set_threads(threads);
}

#[test]
fn changed_weights_are_packed_again() {
    let (isa, heads) = (Isa::current(), HeadShape { heads: 2, dim: 8 });
    let mut parameters = Parameters::draw(3, 16, heads, 1.0);
    let (x, cache) = (draw(4, &[1, 2, 8, 8, 16]), LinearAttentionCache::default());
    for changed in [0, 1, 2, 3] {
        let _ = parameters.0[changed].g_mul_scalar_(1.5);
        let wide = x.to_kind(Kind::Double);
        let want = &wide + plain(&wide, &parameters.wide(), heads);
        let got = linear_attention(isa, &x, &parameters.weights(), &cache, heads);
        assert!(error(&got, &want) < 1e-5);
    }
}

#[test]
fn channels_that_are_no_whole_vectors_are_refused() {
    assert!(!linear_attention_fits(Isa::Portable, 6));
}

#[test]
fn the_layers_gradients_are_those_of_libtorchs_operations() {
    let heads = HeadShape { heads: 2, dim: 8 };
    // More sites than channels, and fewer.
    for (side, seed) in [(6, 21), (3, 22)] {
        let mut params = Params::new(5, Kind::Float, Device::Cpu);
        let mut root = params.root();
        let norm = LayerNorm::new(&mut root.sub("norm"), 16).unwrap();
        let layer = SpatialLinearAttention::new(&mut root.sub("fn"), 16, heads).unwrap();
        let x = draw(seed, &[1, 2, side, side, 16]);
        let grad = draw(seed ^ 1, &[1, 2, side, side, 16]);
        let both = [Precision::Reference, Precision::F32].map(|precision| {
            with(precision, || {
                let leaf = x.copy().set_requires_grad(true);
                let y = layer.residual(&leaf, &norm);
                (&y * &grad).sum(Kind::Float).backward();
                let mut all = vec![y.detach(), leaf.grad()];
                for (_, param) in params.iter() {
                    all.push(param.tensor.grad().copy());
                    let _ = param.tensor.grad().zero_();
                }
                all
            })
        });
        assert_eq!(both[0].len(), 6);
        for (want, got) in both[0].iter().zip(&both[1]) {
            let off = error(got, &want.to_kind(Kind::Double));
            assert!(off < 1e-5, "{off}");
        }
    }
}
