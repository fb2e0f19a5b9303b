//! Attentions along time that are drawn, by kernels and by libtorch's operations.
#![allow(dead_code, reason = "each test of kernels takes what it needs")]

use std::sync::Arc;

use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use vd_tensor_ops::FrameMask;
use vd_tensor_ops::kernels::cpu::{
    Frames, Isa, TemporalCache, TemporalWeights, temporal_attention, temporal_attention_backward,
};
use vd_tensor_ops::layers::HeadShape;

use crate::drawn::draw;

/// f f d: row f - 1 + j - i of a table for each query i and key j.
fn pairs(table: &Tensor, f: i64) -> Tensor {
    let rows: Vec<i64> = (0..f).flat_map(|i| (0..f).map(move |j| f - 1 + j - i)).collect();
    table.index_select(0, &Tensor::from_slice(&rows)).unflatten(0, [f, f])
}

/// The parameters, the input and what tells frames apart.
pub(crate) struct Drawn {
    /// x, gamma, to_qkv, to_out, bias, and the vectors of keys and of values.
    pub(crate) leaves: Vec<Tensor>,
    pub(crate) turns: Tensor,
    pub(crate) forbidden: Option<Tensor>,
    pub(crate) shape: HeadShape,
}

impl Drawn {
    pub(crate) fn to(&self, kind: Kind) -> Drawn {
        Drawn {
            leaves: self.leaves.iter().map(|t| t.detach().to_kind(kind)).collect(),
            turns: self.turns.to_kind(kind),
            forbidden: self.forbidden.as_ref().map(Tensor::shallow_clone),
            shape: self.shape,
        }
    }

    /// x plus attention, by libtorch.
    pub(crate) fn plain(&self) -> Tensor {
        self.plain_with(Tensor::shallow_clone)
    }

    /// The same by `round`ed operands of projections; gain and scale are in the weights.
    pub(crate) fn plain_with(&self, round: impl Fn(&Tensor) -> Tensor) -> Tensor {
        let [x, gamma, to_qkv, to_out, bias, distances @ ..] = &self.leaves[..] else { panic!() };
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
        // f f d each: the vector of every pair.
        let vectors: Vec<Tensor> = distances.iter().map(|t| pairs(t, size[1])).collect();
        if let [keys, _] = &vectors[..] {
            scores += Tensor::einsum("bsnid,ijd->bsnij", &[&q, keys], None::<&[i64]>);
        }
        if let Some(forbidden) = &self.forbidden {
            scores = scores.masked_fill(forbidden, f64::NEG_INFINITY);
        }
        let weights = scores.softmax(-1, None);
        let mut out = weights.matmul(&part(2)); // b s n f d
        if let [_, values] = &vectors[..] {
            out += Tensor::einsum("bsnij,ijd->bsnid", &[&weights, values], None::<&[i64]>);
        }
        let out = out.permute([0, 3, 1, 2, 4]).flatten(3, 4);
        let out = round(&out).matmul(&round(to_out).tr());
        x + out.view(size.as_slice())
    }

    /// ... f d, pairs (2i, 2i + 1).
    pub(crate) fn turned(&self, x: &Tensor) -> Tensor {
        let pairs = self.turns.size()[1];
        let part = x.narrow(-1, 0, 2 * pairs).unflatten(-1, [pairs, 2]);
        let (u, v) = (part.select(-1, 0), part.select(-1, 1));
        let (cos, sin) = (self.turns.select(2, 0), self.turns.select(2, 1));
        let turned = [&u * &cos - &v * &sin, &u * &sin + &v * &cos];
        let turned = Tensor::stack(&turned, -1).flatten(-2, -1);
        Tensor::cat(&[turned, x.narrow(-1, 2 * pairs, x.size()[4] - 2 * pairs)], -1)
    }

    /// Gradients of the sum of `grad` times [`Drawn::plain`], by libtorch.
    pub(crate) fn plain_grads(&self, grad: &Tensor) -> Vec<Tensor> {
        self.plain_grads_in(Kind::Double, grad)
    }

    pub(crate) fn plain_grads_in(&self, kind: Kind, grad: &Tensor) -> Vec<Tensor> {
        let drawn = self.to(kind);
        let leaves = drawn.leaves.iter().map(|t| t.detach().set_requires_grad(true)).collect();
        let tracked = Drawn { leaves, ..drawn };
        let value = (tracked.plain() * grad.to_kind(kind)).sum(kind);
        Tensor::run_backward(&[value], &tracked.leaves, false, false)
    }

    pub(crate) fn parts<'a>(
        &'a self,
        cache: &'a Arc<TemporalCache>,
    ) -> (TemporalWeights<'a>, Frames<'a>) {
        let [_, gamma, to_qkv, to_out, bias, distances @ ..] = &self.leaves[..] else { panic!() };
        let (turns, forbidden) = (&self.turns, self.forbidden.as_ref());
        let weights = TemporalWeights { gamma, to_qkv, to_out, shape: self.shape, cache };
        let distances = distances.first().zip(distances.last()).map(|(k, v)| [k, v]);
        (weights, Frames { turns, bias: Some(bias), distances, forbidden })
    }

    pub(crate) fn fused(&self, isa: Isa, cache: &Arc<TemporalCache>) -> Tensor {
        let (weights, frames) = self.parts(cache);
        temporal_attention(isa, &self.leaves[0], &weights, &frames)
    }

    pub(crate) fn fused_grads(&self, isa: Isa, grad: &Tensor) -> Vec<Tensor> {
        let cache = Arc::default();
        let (weights, frames) = self.parts(&cache);
        let of = temporal_attention_backward(isa, (&self.leaves[0], grad), &weights, &frames);
        let more = of.bias.into_iter().chain(of.distances.into_iter().flatten());
        [of.x, of.gamma, of.to_qkv, of.to_out].into_iter().chain(more).collect()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// b f h w c
    pub(crate) size: [i64; 5],
    pub(crate) heads: i64,
    pub(crate) dim: i64,
    pub(crate) pairs: i64,
    pub(crate) mask: u8,
    /// Whether keys and values have vectors for distances.
    pub(crate) shaw: bool,
    pub(crate) seed: u64,
}

impl Case {
    pub(crate) fn draw(&self) -> Drawn {
        let Case { size, heads, dim, shaw, seed, .. } = *self;
        let [b, f, .., c] = size;
        let inner = heads * dim;
        // Scores of order one and more: a softmax that is not flat.
        let to_qkv = draw(seed ^ 3, &[3 * inner, c]) * (1.5 / (c as f64).sqrt());
        let to_out = draw(seed ^ 4, &[c, inner]) / (inner as f64).sqrt();
        let angle = draw(seed ^ 6, &[f, self.pairs]);
        let mut leaves = vec![
            draw(seed ^ 1, &size) * 2.0 + 0.5,
            draw(seed ^ 2, &[c]) * 0.2 + 1.0,
            to_qkv,
            to_out,
            draw(seed ^ 5, &[heads, f, f]),
        ];
        let table = |k: u64| draw(seed ^ k, &[2 * f - 1, dim]);
        leaves.extend([9, 10].into_iter().filter(|_| shaw).map(table));
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
    pub(crate) fn with_any_mask(&self, leaves: Vec<Tensor>, angle: &Tensor) -> Drawn {
        let [b, f, ..] = self.size;
        let itself = Tensor::eye(f, (Kind::Bool, Device::Cpu)).logical_not();
        let any = draw(self.seed ^ 7, &[b, 1, 1, f, f]).gt(0.0).logical_and(&itself);
        let turns = Tensor::stack(&[angle.cos(), angle.sin()], -1);
        let shape = HeadShape { heads: self.heads, dim: self.dim };
        Drawn { leaves, turns, forbidden: Some(any), shape }
    }
}

pub(crate) fn case(sites: std::ops::Range<i64>) -> impl Strategy<Value = Case> {
    let frames = prop_oneof![4 => 1i64..10, 1 => 10i64..40];
    let size = (1i64..4, frames, sites.clone(), sites, 1i64..5);
    let size = size.prop_map(|(b, f, h, w, c)| [b, f, h, w, 16 * c]);
    let places = (0i64..12, 0u8..4, any::<bool>());
    (size, 1i64..5, 1i64..12, places, any::<u64>()).prop_map(
        |(size, heads, half, (pairs, mask, shaw), seed)| Case {
            size,
            heads,
            dim: 2 * half,
            pairs: pairs.min(half),
            mask,
            shaw,
            seed,
        },
    )
}
