//! Packed weights of an attention, multiplied by the gain of its norm.

use crate::kernels::cpu::{Block, Isa, columns};

/// The sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) images: usize,
    /// Positions per image.
    pub(super) sites: usize,
    pub(super) c: usize,
    pub(super) heads: usize,
    /// Features per head.
    pub(super) dim: usize,
    /// The same, padded with zeros to whole vectors.
    pub(super) wide: usize,
}

impl Shape {
    /// Features of all heads, including padding.
    pub(super) fn features(&self) -> usize {
        self.heads * self.wide
    }

    /// Features of all heads.
    pub(super) fn inner(&self) -> usize {
        self.heads * self.dim
    }

    /// Scaling factor of the queries.
    pub(super) fn scale(&self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }

    /// Index of a feature in the weights; None for padding.
    pub(super) fn source(&self, feature: usize) -> Option<usize> {
        let (head, d) = (feature / self.wide, feature % self.wide);
        (d < self.dim).then_some(head * self.dim + d)
    }
}

/// Parameters in memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights<'a> {
    /// c
    pub(super) gamma: &'a [f32],
    /// 3 (n d) c
    pub(super) qkv: &'a [f32],
    /// c (n d)
    pub(super) out: &'a [f32],
}

/// Both projections, for the attention or for its backward.
#[derive(Debug)]
pub(super) struct Packed {
    /// Panels of features of queries, keys and values, rows are channels; for the backward panels
    /// of channels, rows are features.
    pub(super) qkv: Block,
    /// Panels of channels, rows are features; for the backward panels of features, rows are
    /// channels.
    pub(super) out: Block,
}

impl Packed {
    pub(super) fn new(isa: Isa, shape: &Shape, weights: &Weights<'_>, back: bool) -> Self {
        let Shape { c, .. } = *shape;
        let (inner, features) = (shape.inner(), shape.features());
        let Weights { gamma, qkv, out } = *weights;
        // Looked up in advance, since each is used c times.
        let sources: Vec<_> = (0..features).map(|feature| shape.source(feature)).collect();
        let parts = [(0, shape.scale()), (1, 1.0), (2, 1.0)];
        let rows: Vec<_> = parts
            .into_iter()
            .flat_map(|(part, scale)| {
                sources.iter().map(move |n| n.map(|n| ((part * inner + n) * c, scale)))
            })
            .collect();
        let of_qkv = |feature: usize, k: usize| match rows[feature] {
            Some((row, scale)) => qkv[row + k] * gamma[k] * scale,
            None => 0.0,
        };
        let of_out = |feature: usize, k: usize| match sources[feature] {
            Some(n) => out[k * inner + n],
            None => 0.0,
        };
        if back {
            Packed {
                qkv: columns(isa, [3 * features, c], of_qkv),
                out: columns(isa, [c, features], |k, n| of_out(n, k)),
            }
        } else {
            Packed {
                qkv: columns(isa, [c, 3 * features], |k, n| of_qkv(n, k)),
                out: columns(isa, [features, c], of_out),
            }
        }
    }
}
