//! Attention along time, every position by itself.

use std::sync::Arc;

use tch::Tensor;

use super::norm::softmax;
use super::{HeadShape, LayerNorm, Linear, Memory, Rotary};
use crate::kernels::cpu::{self, Frames, Isa, TemporalCache, TemporalWeights};
use crate::{Result, Scope, kernels};

/// Attention along time: each position of the frame attends over frames.
///
/// Rotary positions in queries and keys, a relative bias on the scores, projections without bias.
///
/// # Reference
/// Ho et al. 2022, section 3, arXiv:2204.03458.
#[derive(Debug)]
pub struct TemporalAttention {
    shape: HeadShape,
    rotary: Rotary,
    to_qkv: Linear,
    to_out: Linear,
    packed: Arc<TemporalCache>,
}

impl TemporalAttention {
    /// `to_qkv.weight`, `to_out.weight`, `rotary_emb.freqs` over min(32, d) features of a head.
    ///
    /// # Errors
    /// An odd head width below 32; names that are taken.
    pub fn new(scope: &mut Scope, channels: i64, shape: HeadShape) -> Result<Self> {
        Ok(TemporalAttention {
            shape,
            rotary: Rotary::new(&mut scope.sub("rotary_emb"), shape.dim.min(32))?,
            to_qkv: Linear::without_bias(&mut scope.sub("to_qkv"), channels, 3 * shape.inner())?,
            to_out: Linear::without_bias(&mut scope.sub("to_out"), shape.inner(), channels)?,
            packed: Arc::default(),
        })
    }

    /// x + attention of norm(x), in one pass where a kernel takes it.
    ///
    /// # Shapes
    /// As [`TemporalAttention::forward`]
    pub fn residual(
        &self,
        norm: &LayerNorm,
        x: &Tensor,
        bias: &Tensor,
        forbidden: Option<&Tensor>,
    ) -> Tensor {
        let (gamma, to_qkv, to_out) = (norm.gamma(), self.to_qkv.weight(), self.to_out.weight());
        let all = [x, gamma, to_qkv, to_out, bias];
        let isa = Isa::current();
        let fits = all.iter().all(|t| kernels::on_cpu(t))
            && cpu::temporal_fits(isa, x.size()[4], self.shape)
            && x.numel() > 0;
        if !fits {
            return x + self.forward(&norm.forward(x), bias, forbidden);
        }
        let turns = &self.rotary.turns(x.size()[1]);
        let (shape, cache) = (self.shape, &self.packed);
        let weights = TemporalWeights { gamma, to_qkv, to_out, shape, cache };
        cpu::temporal(isa, x, &weights, &Frames { turns, bias, forbidden })
    }

    /// `bias` is added to the scores; `forbidden` marks pairs that do not see each other.
    ///
    /// # Shapes
    /// `x`: b f h w c -> the same; `bias`: n f f; `forbidden`: bool, (b or 1) 1 1 f f
    pub fn forward(&self, x: &Tensor, bias: &Tensor, forbidden: Option<&Tensor>) -> Tensor {
        self.forward_with(x, bias, forbidden, None)
    }

    /// The same with keys and values beside those of the frames, which `bias`, `forbidden` and
    /// rotary positions leave alone: a frame sees them as it would at any other place in the clip.
    ///
    /// # Shapes
    /// As [`TemporalAttention::forward`]
    pub fn forward_with(
        &self,
        x: &Tensor,
        bias: &Tensor,
        forbidden: Option<&Tensor>,
        memory: Option<&Memory>,
    ) -> Tensor {
        let (size, f) = (x.size(), x.size()[1]);
        let qkv = self.to_qkv.forward(&x.flatten(2, 3)); // b f s (3 n d)
        let inner = self.shape.inner();
        // One pass turns queries and keys and scales the queries.
        let rotations =
            [self.shape.scale(), 1.0].map(|gain| self.rotary.rotations(f, self.shape, gain));
        let rotations = Tensor::cat(&rotations, 2);
        let qk = self.rotary.rotate(&qkv.narrow(3, 0, 2 * inner), self.shape, &rotations);

        let frames_inside = |t: Tensor| {
            t.unflatten(3, [self.shape.heads, self.shape.dim]).permute([0, 2, 3, 1, 4]) // b s n f d
        };
        let q = frames_inside(qk.narrow(3, 0, inner));
        let k = frames_inside(qk.narrow(3, inner, inner));
        let v = frames_inside(qkv.narrow(3, 2 * inner, inner));
        let mut scores = q.matmul(&k.transpose(-2, -1)) + bias; // b s n f f
        if let Some(forbidden) = forbidden {
            scores = scores.masked_fill(forbidden, f64::NEG_INFINITY);
        }
        let Some(memory) = memory else {
            let out = softmax(&scores, -1).matmul(&v); // b s n f d
            let out = out.permute([0, 3, 1, 2, 4]).flatten(3, 4); // b f s (n d)
            return self.to_out.forward(&out).view(size.as_slice());
        };
        let [keys, values] = memory.of_frames(f).map(|t| t.transpose(2, 3)); // b f n m d
        let m = keys.size()[3];
        // Before the turn: a query's angle is a place in time, and these keys have none.
        let still = self.shape.heads(&qkv.narrow(3, 0, inner)).transpose(2, 3); // b f n s d
        let recalled = (still * self.shape.scale()).matmul(&keys.transpose(-2, -1)); // b f n s m
        let scores = Tensor::cat(&[recalled.permute([0, 3, 2, 1, 4]), scores], -1); // b s n f m+f
        let weights = softmax(&scores, -1);
        let recalled = weights.narrow(-1, 0, m).permute([0, 3, 2, 1, 4]).matmul(&values); // b f n s d
        let out = weights.narrow(-1, m, f).matmul(&v).permute([0, 3, 1, 2, 4]); // b f s n d
        let out = (out + recalled.transpose(2, 3)).flatten(3, 4); // b f s (n d)
        self.to_out.forward(&out).view(size.as_slice())
    }
}
