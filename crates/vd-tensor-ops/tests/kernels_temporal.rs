//! The kernels of attention along time against libtorch in f64, over drawn shapes and masks, for
//! every set of instructions that the machine has.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod drawn;

use std::sync::Arc;

use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::FrameMask;
use vd_tensor_ops::kernels::cpu::{
    Frames, Isa, TemporalCache, TemporalWeights, temporal_attention, temporal_attention_backward,
    temporal_fits,
};
use vd_tensor_ops::kernels::{Precision, with};
use vd_tensor_ops::layers::HeadShape;

use drawn::{draw, error};

/// The parameters, the input and what tells frames apart.
struct Drawn {
    /// x, gamma, to_qkv, to_out, bias.
    leaves: [Tensor; 5],
    turns: Tensor,
    forbidden: Option<Tensor>,
    shape: HeadShape,
}

impl Drawn {
    fn to(&self, kind: Kind) -> Drawn {
        Drawn {
            leaves: self.leaves.each_ref().map(|t| t.detach().to_kind(kind)),
            turns: self.turns.to_kind(kind),
            forbidden: self.forbidden.as_ref().map(Tensor::shallow_clone),
            shape: self.shape,
        }
    }

    /// x plus attention, by libtorch.
    fn plain(&self) -> Tensor {
        self.plain_with(Tensor::shallow_clone)
    }

    /// The same by `round`ed operands of projections; gain and scale are in the weights.
    fn plain_with(&self, round: impl Fn(&Tensor) -> Tensor) -> Tensor {
        let [x, gamma, to_qkv, to_out, bias] = &self.leaves;
        let (size, HeadShape { heads, dim }) = (x.size(), self.shape);
        let scale = (to_qkv.select(1, 0).ones_like() / (dim as f64).sqrt()).unsqueeze(1);
        let _ = scale.narrow(0, heads * dim, 2 * heads * dim).fill_(1.0);
        let normal = x.layer_norm([size[4]], None::<&Tensor>, None, 1e-5, false);
        let to_qkv = round(&(to_qkv * gamma * scale));
        let qkv = round(&normal).flatten(2, 3).matmul(&to_qkv.tr()); // b f s (3 n d)
        let part = |i: i64| {
            let part = qkv.narrow(3, i * heads * dim, heads * dim);
            part.unflatten(3, [heads, dim]).permute([0, 2, 3, 1, 4]) // b s n f d
        };
        let q = self.turned(&part(0));
        let mut scores = q.matmul(&self.turned(&part(1)).transpose(-2, -1)) + bias;
        if let Some(forbidden) = &self.forbidden {
            scores = scores.masked_fill(forbidden, f64::NEG_INFINITY);
        }
        let out = scores.softmax(-1, None).matmul(&part(2)); // b s n f d
        let out = out.permute([0, 3, 1, 2, 4]).flatten(3, 4);
        let out = round(&out).matmul(&round(to_out).tr());
        x + out.view(size.as_slice())
    }

    /// ... f d, pairs (2i, 2i + 1).
    fn turned(&self, x: &Tensor) -> Tensor {
        let pairs = self.turns.size()[1];
        let part = x.narrow(-1, 0, 2 * pairs).unflatten(-1, [pairs, 2]);
        let (u, v) = (part.select(-1, 0), part.select(-1, 1));
        let (cos, sin) = (self.turns.select(2, 0), self.turns.select(2, 1));
        let turned = [&u * &cos - &v * &sin, &u * &sin + &v * &cos];
        let turned = Tensor::stack(&turned, -1).flatten(-2, -1);
        Tensor::cat(&[turned, x.narrow(-1, 2 * pairs, x.size()[4] - 2 * pairs)], -1)
    }

    /// Gradients of the sum of `grad` times [`Drawn::plain`], by libtorch.
    fn plain_grads(&self, grad: &Tensor) -> Vec<Tensor> {
        let leaves = self.leaves.each_ref().map(|t| t.detach().set_requires_grad(true));
        let tracked = Drawn { leaves, ..self.to(Kind::Double) };
        let value = (tracked.plain() * grad.to_kind(Kind::Double)).sum(Kind::Double);
        Tensor::run_backward(&[value], &tracked.leaves, false, false)
    }

    fn parts<'a>(&'a self, cache: &'a Arc<TemporalCache>) -> (TemporalWeights<'a>, Frames<'a>) {
        let [_, gamma, to_qkv, to_out, bias] = &self.leaves;
        let forbidden = self.forbidden.as_ref();
        let weights = TemporalWeights { gamma, to_qkv, to_out, shape: self.shape, cache };
        (weights, Frames { turns: &self.turns, bias, forbidden })
    }

    fn fused(&self, isa: Isa, cache: &Arc<TemporalCache>) -> Tensor {
        let (weights, frames) = self.parts(cache);
        temporal_attention(isa, &self.leaves[0], &weights, &frames)
    }

    fn fused_grads(&self, isa: Isa, grad: &Tensor) -> [Tensor; 5] {
        let cache = Arc::default();
        let (weights, frames) = self.parts(&cache);
        let of = temporal_attention_backward(isa, (&self.leaves[0], grad), &weights, &frames);
        [of.x, of.gamma, of.to_qkv, of.to_out, of.bias]
    }
}

#[derive(Debug, Clone)]
struct Case {
    /// b f h w c
    size: [i64; 5],
    heads: i64,
    dim: i64,
    pairs: i64,
    mask: u8,
    seed: u64,
}

impl Case {
    fn draw(&self) -> Drawn {
        let Case { size, heads, dim, seed, .. } = *self;
        let [b, f, .., c] = size;
        let inner = heads * dim;
        // Scores of order one and more: a softmax that is not flat.
        let to_qkv = draw(seed ^ 3, &[3 * inner, c]) * (1.5 / (c as f64).sqrt());
        let to_out = draw(seed ^ 4, &[c, inner]) / (inner as f64).sqrt();
        let angle = draw(seed ^ 6, &[f, self.pairs]);
        let leaves = [
            draw(seed ^ 1, &size) * 2.0 + 0.5,
            draw(seed ^ 2, &[c]) * 0.2 + 1.0,
            to_qkv,
            to_out,
            draw(seed ^ 5, &[heads, f, f]),
        ];
        let bits: Vec<bool> = (0..b).map(|i| (seed >> i) & 1 == 0).collect();
        let mask = match self.mask {
            0 => FrameMask::All,
            1 => FrameMask::Focus(Tensor::from_slice(&bits)),
            2 => FrameMask::ClipAndImages { clip: 1 + (seed % f as u64) as i64 },
            _ => return self.with_any_mask(leaves, &angle),
        };
        let turns = Tensor::stack(&[angle.cos(), angle.sin()], -1);
        let shape = HeadShape { heads, dim };
        Drawn { leaves, turns, forbidden: mask.forbidden(f, Device::Cpu), shape }
    }

    /// Any pairs, each sample its own, but no frame against itself.
    fn with_any_mask(&self, leaves: [Tensor; 5], angle: &Tensor) -> Drawn {
        let [b, f, ..] = self.size;
        let itself = Tensor::eye(f, (Kind::Bool, Device::Cpu)).logical_not();
        let any = draw(self.seed ^ 7, &[b, 1, 1, f, f]).gt(0.0).logical_and(&itself);
        let turns = Tensor::stack(&[angle.cos(), angle.sin()], -1);
        let shape = HeadShape { heads: self.heads, dim: self.dim };
        Drawn { leaves, turns, forbidden: Some(any), shape }
    }
}

fn case(sites: std::ops::Range<i64>) -> impl Strategy<Value = Case> {
    let frames = prop_oneof![4 => 1i64..10, 1 => 10i64..40];
    let size = (1i64..4, frames, sites.clone(), sites, 1i64..5);
    let size = size.prop_map(|(b, f, h, w, c)| [b, f, h, w, 16 * c]);
    (size, 1i64..5, 1i64..12, 0i64..12, 0u8..4, any::<u64>()).prop_map(
        |(size, heads, half, pairs, mask, seed)| Case {
            size,
            heads,
            dim: 2 * half,
            pairs: pairs.min(half),
            mask,
            seed,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn attention_along_time_is_that_of_libtorch(case in case(1..7)) {
        let drawn = case.draw();
        let expected = drawn.to(Kind::Double).plain();
        for isa in Isa::tested() {
            prop_assert!(temporal_fits(isa, case.size[4], drawn.shape));
            let got = drawn.fused(isa, &Arc::default());
            prop_assert!(error(&got, &expected) < 1e-5, "{isa}: {}", error(&got, &expected));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn its_gradients_are_those_of_libtorch(case in case(1..6)) {
        let drawn = case.draw();
        let grad = draw(case.seed ^ 8, &case.size);
        let expected = drawn.to(Kind::Double).plain_grads(&grad);
        for isa in Isa::tested() {
            let got = drawn.fused_grads(isa, &grad);
            for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let error = error(got, expected);
                prop_assert!(error < 1e-5, "{isa}, input {i}: {error}");
            }
        }
    }

    #[test]
    fn bf16_rounds_the_operands_of_projections_and_nothing_else(case in case(1..7)) {
        let drawn = case.draw();
        let (wide, [x, ..]) = (drawn.to(Kind::Double), &drawn.leaves);
        let bf16 = |t: &Tensor| t.to_kind(Kind::BFloat16).to_kind(Kind::Double);
        let (rounded, plain) = (wide.plain_with(bf16) - x, wide.plain() - x);
        // A value rounded to the other side is off by 2^-8 of itself; measured: 1e-4 and 6e-3 of all.
        let values = case.size[..4].iter().product::<i64>() * case.heads * case.dim;
        let bound = 3e-4 + 2f64.powi(-6) / (values as f64).sqrt();
        for isa in Isa::tested() {
            let got = with(Precision::Bf16, || drawn.fused(isa, &Arc::default())) - x;
            let (off, all) = (error(&got, &rounded), error(&got, &plain));
            prop_assert!(off < bound && all < 1.2e-2, "{isa}: {off}, {all}");
        }
    }
}

/// A case by hand.
fn of(size: [i64; 5], heads: i64, dim: i64) -> Case {
    Case { size, heads, dim, pairs: dim / 2, mask: 0, seed: 20 }
}

#[test]
fn more_frames_than_a_block_of_queries_are_taken() {
    let drawn = of([1, 71, 2, 5, 16], 2, 8).draw();
    let expected = drawn.to(Kind::Double).plain();
    for isa in Isa::tested() {
        assert!(error(&drawn.fused(isa, &Arc::default()), &expected) < 1e-5);
    }
}

#[test]
fn frames_that_see_nothing_are_not_numbers_and_the_others_are_as_ever() {
    let mut drawn = of([1, 5, 3, 3, 16], 2, 8).draw();
    let none = Tensor::zeros([1, 1, 1, 5, 5], (Kind::Bool, Device::Cpu));
    let _ = none.select(3, 2).fill_(1);
    drawn.forbidden = Some(none);
    let expected = drawn.to(Kind::Double).plain();
    let finite = |x: &Tensor| x.isfinite().all_dims([2i64, 3, 4].as_slice(), false);
    for isa in Isa::tested() {
        let got = drawn.fused(isa, &Arc::default());
        assert_eq!(finite(&got), finite(&expected));
        assert_eq!(finite(&got).select(1, 2).int64_value(&[0]), 0);
        let seen = |x: &Tensor| x.narrow(1, 3, 2);
        assert!(error(&seen(&got), &seen(&expected)) < 1e-5);
    }
}

#[test]
fn changed_weights_are_packed_again() {
    let (mut drawn, cache) = (of([1, 3, 4, 4, 16], 2, 8).draw(), Arc::default());
    for changed in [1, 2, 3, 3] {
        let expected = drawn.to(Kind::Double).plain();
        assert!(error(&drawn.fused(Isa::current(), &cache), &expected) < 1e-5);
        drawn.leaves[changed] *= 1.5;
    }
}

#[test]
fn threads_that_share_a_unit_change_no_bit() {
    // 4 x 4 sites are one unit or two, of which there are less than threads.
    let drawn = of([1, 5, 4, 4, 32], 4, 8).draw();
    let before = vd_tensor_ops::torch::threads();
    let run = |threads: usize| {
        vd_tensor_ops::torch::set_threads(threads);
        drawn.fused(Isa::current(), &Arc::default())
    };
    let all = [1, 2, 3, 5].map(run);
    vd_tensor_ops::torch::set_threads(before);
    assert!(all.iter().all(|got| got.equal(&all[0])));
}

#[test]
fn gradients_by_threads_that_share_a_unit_are_right_and_the_same_on_every_call() {
    for size in [[1, 5, 4, 4, 32], [3, 4, 5, 5, 32]] {
        let drawn = of(size, 4, 8).draw();
        let grad = draw(21, &size);
        let expected = drawn.to(Kind::Double).plain_grads(&grad);
        let before = vd_tensor_ops::torch::threads();
        for threads in [2, 3, 5] {
            vd_tensor_ops::torch::set_threads(threads);
            let [first, again] = [0, 1].map(|_| drawn.fused_grads(Isa::current(), &grad));
            for ((first, again), expected) in first.iter().zip(&again).zip(&expected) {
                assert!(first.equal(again) && error(first, expected) < 1e-5);
            }
        }
        vd_tensor_ops::torch::set_threads(before);
    }
}

#[test]
fn odd_heads_and_channels_that_are_no_whole_vectors_are_refused() {
    assert!(!temporal_fits(Isa::Portable, 6, HeadShape { heads: 2, dim: 8 }));
    assert!(!temporal_fits(Isa::Portable, 16, HeadShape { heads: 2, dim: 7 }));
}
