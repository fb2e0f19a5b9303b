//! Attention of positions over the tokens of a text.

use tch::Tensor;

use super::tokens::{self, Seen};
use super::{HeadShape, Linear};
use crate::kernels::check;
use crate::{Result, Scope};

/// Attention over text: each position of each frame attends over the tokens.
///
/// A token's weight multiplies its share of the softmax: 2 counts the token twice, 0 masks it. A
/// frame without any unmasked token gets exactly 0. The output projection starts at 0, so a network
/// to which this layer is added initially computes the same as before.
///
/// # Reference
/// Vaswani et al. 2017, section 3.2.3, arXiv:1706.03762; in a denoiser: Rombach et al. 2022,
/// section 3.3, arXiv:2112.10752.
#[derive(Debug)]
pub struct CrossAttention {
    shape: HeadShape,
    to_q: Linear,
    to_kv: Linear,
    to_out: Linear,
}

impl CrossAttention {
    /// `to_q.weight`, `to_kv.weight` (keys first) and `to_out.weight`, for tokens of width `dim`.
    ///
    /// # Errors
    /// Names that are taken; sizes below 1.
    pub fn new(scope: &mut Scope, channels: i64, dim: i64, shape: HeadShape) -> Result<Self> {
        let inner = shape.inner();
        Ok(CrossAttention {
            shape,
            to_q: Linear::without_bias(&mut scope.sub("to_q"), channels, inner)?,
            to_kv: Linear::without_bias(&mut scope.sub("to_kv"), dim, 2 * inner)?,
            to_out: Linear::zero(&mut scope.sub("to_out"), inner, channels)?,
        })
    }

    /// # Shapes
    /// `x`: b f h w c -> the same; `tokens`: b l d; `weight`: b l or b f l
    /// # Range
    /// `weight`: 0 or more; any dtype
    pub fn forward(&self, x: &Tensor, tokens: &Tensor, weight: &Tensor) -> Tensor {
        self.forward_grouped(x, tokens, weight, None)
    }

    /// The same with several texts; each frame attends to one of them.
    ///
    /// # Shapes
    /// `tokens`: b g l d; `weight`: b f l; `group`: i64, b f, from 0 to g - 1. Without a group as
    /// [`CrossAttention::forward`].
    pub fn forward_grouped(
        &self,
        x: &Tensor,
        tokens: &Tensor,
        weight: &Tensor,
        group: Option<&Tensor>,
    ) -> Tensor {
        let c = self.to_q.weight().size()[1];
        let size = check::channels("the input of an attention over text", x, c);
        let weights = weight.size();
        assert!(
            weights.len() != 3 || weights[1] == size[1],
            "the weights of tokens: expected shape b l, or b {} l, got {weights:?}",
            size[1]
        );
        let q = self.to_q.forward(&x.flatten(1, 3)); // b (f s) (n d)
        let q = self.shape.heads(&q).transpose(1, 2); // b n (f s) d
        let [k, v] = self.shape.pair(&self.to_kv.forward(tokens)).map(|t| t.transpose(-3, -2));
        let out = tokens::attend(&q, [&k, &v], Seen { weight, group }, self.shape.scale());
        let out = out.transpose(1, 2).flatten(2, 3); // b (f s) (n d)
        self.to_out.forward(&out).view(size.as_slice())
    }
}
