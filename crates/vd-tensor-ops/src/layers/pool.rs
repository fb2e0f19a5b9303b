//! Pooling any number of tokens into a few vectors, by attention.

use tch::Tensor;

use super::tokens::{self, Seen};
use super::{HeadShape, Linear};
use crate::{Init, Result, Scope};

/// Learned queries attend over tokens; one linear map is applied to each result.
#[derive(Debug)]
pub(super) struct Queries {
    shape: HeadShape,
    queries: Tensor,
    to_kv: Linear,
    to_out: Linear,
}

impl Queries {
    /// `queries` (m (n d)), standard normal, `to_kv.weight` (keys first), `to_out.weight` and
    /// `to_out.bias`.
    ///
    /// # Errors
    /// Names that are taken; sizes below 1.
    pub(super) fn new(
        scope: &mut Scope,
        count: i64,
        (dim, width): (i64, i64),
        shape: HeadShape,
    ) -> Result<Self> {
        let inner = shape.inner();
        Ok(Queries {
            shape,
            queries: scope.param("queries", &[count, inner], Init::Normal)?,
            to_kv: Linear::without_bias(&mut scope.sub("to_kv"), dim, 2 * inner)?,
            to_out: Linear::new(&mut scope.sub("to_out"), inner, width)?,
        })
    }

    /// # Shapes
    /// `tokens`: b l d; `weight`: b l -> b m e, or b f l -> b f m e; with a group (b f) `tokens`
    /// are b g l d, of which each frame attends to one
    pub(super) fn forward(&self, tokens: &Tensor, seen: Seen<'_>) -> Tensor {
        let (b, m) = (tokens.size()[0], self.queries.size()[0]);
        let per_frame = seen.weight.dim() == 3;
        let f = if per_frame { seen.weight.size()[1] } else { 1 };
        let q = self.shape.heads(&self.queries).repeat([f, 1, 1]); // (f m) n d
        let q = q.transpose(0, 1).unsqueeze(0).expand([b, -1, -1, -1], false); // b n (f m) d
        let [k, v] = self.shape.pair(&self.to_kv.forward(tokens)).map(|t| t.transpose(-3, -2));
        let out = tokens::attend(&q, [&k, &v], seen, self.shape.scale());
        let out = self.to_out.forward(&out.transpose(1, 2).flatten(2, 3)); // b (f m) e
        if per_frame { out.unflatten(1, [f, m]) } else { out }
    }
}

/// The tokens of a text as one vector, by attention that is trained with the network.
///
/// One learned query per head attends over the tokens, and a linear map joins the heads. Without
/// any token, the result is the bias of that map.
///
/// # Reference
/// Ho et al. 2022, arXiv:2204.03458, pool a text model's tokens by attention and do not say how; a
/// single query over all tokens is the choice here.
#[derive(Debug)]
pub struct AttentionPool {
    queries: Queries,
}

impl AttentionPool {
    /// `queries` (1 (n d)), `to_kv.weight` (keys first), `to_out.weight` and `to_out.bias`, from
    /// tokens of width `dim` to a vector of width `width`.
    ///
    /// # Errors
    /// Names that are taken; sizes below 1.
    pub fn new(scope: &mut Scope, dim: i64, width: i64, shape: HeadShape) -> Result<Self> {
        Ok(AttentionPool { queries: Queries::new(scope, 1, (dim, width), shape)? })
    }

    /// # Shapes
    /// `tokens`: b l d; `weight`: b l -> b e, or b f l -> b f e
    /// # Range
    /// `weight`: 0 or more, any dtype
    pub fn forward(&self, tokens: &Tensor, weight: &Tensor) -> Tensor {
        self.forward_grouped(tokens, weight, None)
    }

    /// The same with several texts; each frame attends to one of them.
    ///
    /// # Shapes
    /// `tokens`: b g l d; `weight`: b f l; `group`: i64, b f, from 0 to g - 1 -> b f e. Without a
    /// group as [`AttentionPool::forward`].
    pub fn forward_grouped(
        &self,
        tokens: &Tensor,
        weight: &Tensor,
        group: Option<&Tensor>,
    ) -> Tensor {
        self.queries.forward(tokens, Seen { weight, group }).squeeze_dim(-2)
    }
}
