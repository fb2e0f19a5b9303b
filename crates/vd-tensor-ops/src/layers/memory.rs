//! A text as extra keys and values of the attentions over a video.

use tch::Tensor;

use super::pool::Queries;
use super::tokens::Seen;
use super::{HeadShape, Linear};
use crate::{Result, Scope};

/// Extra keys and values that every query of an attention sees, at any position.
///
/// They have no position in space or time: no rotation, relative bias or frame mask applies to
/// them.
#[derive(Debug)]
pub struct Memory {
    /// # Shapes
    /// b m n d for all frames, or b f m n d for each
    pub keys: Tensor,
    /// # Shapes
    /// Those of the keys
    pub values: Tensor,
}

impl Memory {
    /// The memory of the `n` frames from `first` on.
    #[must_use]
    pub fn frames(&self, first: i64, n: i64) -> Memory {
        let some = |t: &Tensor| match t.dim() {
            4 => t.shallow_clone(),
            _ => t.narrow(1, first, n),
        };
        Memory { keys: some(&self.keys), values: some(&self.values) }
    }

    /// The memory of each of the `n` frames from `first` on, as a sample of its own.
    ///
    /// # Shapes
    /// Result: (b n) m n d
    #[must_use]
    pub fn alone(&self, first: i64, n: i64) -> Memory {
        let one = |t: &Tensor| match t.dim() {
            4 => t.repeat_interleave_self_int(n, 0, None),
            _ => t.narrow(1, first, n).flatten(0, 1),
        };
        Memory { keys: one(&self.keys), values: one(&self.values) }
    }

    /// Keys and values for each of `f` frames.
    ///
    /// # Shapes
    /// b f m n d each
    pub(super) fn of_frames(&self, f: i64) -> [Tensor; 2] {
        [&self.keys, &self.values].map(|t| match t.dim() {
            4 => t.unsqueeze(1).expand([-1, f, -1, -1, -1], false),
            _ => t.shallow_clone(),
        })
    }
}

/// A text of any length as a few memory tokens, shared by all attentions of a network.
///
/// Learned queries, one for each memory token, attend over the text, and a linear map joins their
/// heads. Without any text token, every memory token equals the bias of that map.
///
/// # Reference
/// Alayrac et al. 2022 (Flamingo), arXiv:2204.14198: their resampler, as a single attention.
#[derive(Debug)]
pub struct MemoryProjection {
    queries: Queries,
}

impl MemoryProjection {
    /// `queries` (m (n d)), `to_kv.weight` (keys first), `to_out.weight` and `to_out.bias`:
    /// `count` memory tokens of width `width` from tokens of width `dim`.
    ///
    /// # Errors
    /// Names that are taken; sizes below 1.
    pub fn new(
        scope: &mut Scope,
        count: i64,
        dim: i64,
        width: i64,
        shape: HeadShape,
    ) -> Result<Self> {
        Ok(MemoryProjection { queries: Queries::new(scope, count, (dim, width), shape)? })
    }

    /// # Shapes
    /// `tokens`: b l d; `weight`: b l -> b m e, or b f l -> b f m e
    /// # Range
    /// `weight`: 0 or more, any dtype
    pub fn forward(&self, tokens: &Tensor, weight: &Tensor) -> Tensor {
        self.forward_grouped(tokens, weight, None)
    }

    /// The same with several texts; each frame attends to one of them.
    ///
    /// # Shapes
    /// `tokens`: b g l d; `weight`: b f l; `group`: i64, b f, from 0 to g - 1 -> b f m e. Without a
    /// group as [`MemoryProjection::forward`].
    pub fn forward_grouped(
        &self,
        tokens: &Tensor,
        weight: &Tensor,
        group: Option<&Tensor>,
    ) -> Tensor {
        self.queries.forward(tokens, Seen { weight, group })
    }
}

/// Projects memory tokens to the keys and values of one attention.
#[derive(Debug)]
pub struct MemoryHeads {
    shape: HeadShape,
    to_k: Linear,
    to_v: Linear,
}

impl MemoryHeads {
    /// `to_k.weight` and `to_v.weight`, from memory tokens of width `width` to an attention's heads.
    ///
    /// # Errors
    /// Names that are taken; sizes below 1.
    pub fn new(scope: &mut Scope, width: i64, shape: HeadShape) -> Result<Self> {
        Ok(MemoryHeads {
            shape,
            to_k: Linear::without_bias(&mut scope.sub("to_k"), width, shape.inner())?,
            to_v: Linear::without_bias(&mut scope.sub("to_v"), width, shape.inner())?,
        })
    }

    /// # Shapes
    /// b m e -> keys and values b m n d, or b f m e -> b f m n d
    pub fn forward(&self, tokens: &Tensor) -> Memory {
        let heads = |linear: &Linear| self.shape.heads(&linear.forward(tokens));
        Memory { keys: heads(&self.to_k), values: heads(&self.to_v) }
    }
}
