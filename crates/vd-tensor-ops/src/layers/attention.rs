//! What all attention layers share.

use tch::Tensor;

use crate::{Error, Result};

/// Number and width of the heads of an attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadShape {
    /// Number of heads.
    pub heads: i64,
    /// Features of each head.
    pub dim: i64,
}

impl HeadShape {
    /// # Errors
    /// Numbers below 1.
    pub fn new(heads: i64, dim: i64) -> Result<Self> {
        if heads < 1 || dim < 1 {
            return Err(Error::Value {
                what: "attention heads and their width".to_owned(),
                expected: "at least 1 each".to_owned(),
                got: format!("{heads} heads of {dim}"),
            });
        }
        Ok(HeadShape { heads, dim })
    }

    /// Features of all heads together.
    pub fn inner(&self) -> i64 {
        self.heads * self.dim
    }

    /// Scaling factor of the scores: 1 / sqrt(d).
    pub fn scale(&self) -> f64 {
        1.0 / (self.dim as f64).sqrt()
    }

    /// Queries, keys and values of a joint projection.
    ///
    /// # Shapes
    /// ... (3 n d) -> three of ... n d
    pub(crate) fn split(&self, qkv: &Tensor) -> [Tensor; 3] {
        // Unbound together rather than narrowed one by one: then the gradients are stacked, instead
        // of each being padded with zeros and added.
        let mut parts = qkv.unflatten(-1, [3, self.heads, self.dim]).unbind(-3).into_iter();
        [0, 1, 2].map(|_| parts.next().unwrap_or_default())
    }

    /// Keys and values of a joint projection.
    ///
    /// # Shapes
    /// ... (2 n d) -> two of ... n d
    pub(crate) fn pair(&self, kv: &Tensor) -> [Tensor; 2] {
        let mut parts = kv.unflatten(-1, [2, self.heads, self.dim]).unbind(-3).into_iter();
        [0, 1].map(|_| parts.next().unwrap_or_default())
    }

    /// # Shapes
    /// ... (n d) -> ... n d
    pub(crate) fn heads(&self, x: &Tensor) -> Tensor {
        x.unflatten(-1, [self.heads, self.dim])
    }
}
