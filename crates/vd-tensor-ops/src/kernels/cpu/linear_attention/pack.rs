//! Packed weights of an attention, multiplied by the gain of its norm.

use crate::kernels::cpu::{Block, Isa, columns, gemm, paired};

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
}

impl Shape {
    /// Features of all heads.
    pub(super) fn inner(&self) -> usize {
        self.heads * self.dim
    }

    /// Pairs of features per head; an odd feature is paired with a zero.
    pub(super) fn head_pairs(&self) -> usize {
        self.dim.div_ceil(2)
    }

    /// Scaling factor of the queries.
    pub(super) fn scale(&self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
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

impl Weights<'_> {
    /// An entry of the projection `part` (queries, keys, values), times the gain.
    fn entry(&self, shape: &Shape, part: usize, feature: usize, c: usize) -> f32 {
        self.qkv[(part * shape.inner() + feature) * shape.c + c] * self.gamma[c]
    }
}

/// As `columns`, of pairs that [`paired::pair_along`] makes along the inner axis.
fn paired_columns(isa: Isa, [k, n]: [usize; 2], at: impl Fn(usize, usize) -> f32 + Sync) -> Block {
    let size = [paired::along(isa, k), n];
    columns(isa, size, |p, n| paired::of_along(isa, k, p, |k| at(k, n)))
}

/// Weights for the form that folds the values' projection into the sums.
#[derive(Debug)]
pub(super) struct Folded {
    /// Panels of features, rows are channels, or pairs along a row of them.
    pub(super) keys: Block,
    /// Blocks of features, columns are channels, or pairs of rows of them.
    pub(super) queries: Block,
    /// For each head panels of features, rows are channels.
    pub(super) values: Block,
    /// The output projection times the factor of the queries: (n d) c.
    pub(super) out: Block,
    /// Whether keys and queries are made of bf16 pairs.
    pub(super) pairs: bool,
}

impl Folded {
    pub(super) fn new(isa: Isa, shape: &Shape, weights: &Weights<'_>, pairs: bool) -> Self {
        let (c, inner, dim, lanes) = (shape.c, shape.inner(), shape.dim, isa.lanes());
        let query = |n, k| weights.entry(shape, 0, n, k);
        let steps = if pairs { c.div_ceil(2) } else { c };
        let mut queries = Block::new(gemm::packed_rows(isa.rows(), inner, steps));
        let size = [inner, steps];
        if pairs {
            gemm::pack_rows(isa.rows(), size, queries.as_mut_slice(), |n, p| {
                paired::of_rows(c, p, |k| query(n, k))
            });
        } else {
            gemm::pack_rows(isa.rows(), size, queries.as_mut_slice(), query);
        }
        let each = gemm::packed_columns(lanes, c, dim);
        let mut values = Block::new(shape.heads * each);
        for (head, panels) in values.as_mut_slice().chunks_exact_mut(each).enumerate() {
            gemm::pack_columns(lanes, [c, dim], panels, |k, e| {
                weights.entry(shape, 2, head * dim + e, k)
            });
        }
        let mut out = Block::new(inner * c);
        for (n, row) in out.as_mut_slice().chunks_exact_mut(c).enumerate() {
            for (k, x) in row.iter_mut().enumerate() {
                *x = weights.out[k * inner + n] * shape.scale();
            }
        }
        let key = |k, n| weights.entry(shape, 1, n, k);
        let size = [c, inner];
        let keys = if pairs { paired_columns(isa, size, key) } else { columns(isa, size, key) };
        Folded { keys, queries, values, out, pairs }
    }
}

/// Weights for the form that computes values.
#[derive(Debug)]
pub(super) struct Direct {
    /// Queries, keys and values: panels of features, rows are channels.
    pub(super) qkv: [Block; 3],
    /// Panels of channels, rows are features.
    pub(super) out: Block,
    /// Length along the rows of both: channels and features, or bf16 pairs of them.
    pub(super) steps: [usize; 2],
    /// Whether they are pairs.
    pub(super) pairs: bool,
}

impl Direct {
    pub(super) fn new(isa: Isa, shape: &Shape, weights: &Weights<'_>, pairs: bool) -> Self {
        let (c, inner) = (shape.c, shape.inner());
        let out = |n, k| weights.out[k * inner + n] * shape.scale();
        let part = |part| {
            let entry = |k, n| weights.entry(shape, part, n, k);
            let size = [c, inner];
            if pairs { paired_columns(isa, size, entry) } else { columns(isa, size, entry) }
        };
        let qkv = [part(0), part(1), part(2)];
        if !pairs {
            let out = columns(isa, [inner, c], out);
            return Direct { qkv, out, steps: [c, inner], pairs };
        }
        let out = paired_columns(isa, [inner, c], out);
        Direct { qkv, out, steps: [c, inner].map(|k| paired::along(isa, k)), pairs }
    }
}

/// Weights that the backward needs besides [`Direct`].
#[derive(Debug)]
pub(super) struct DirectBack {
    /// Queries, keys and values for the backward: panels of channels, rows are features.
    pub(super) qkv: [Block; 3],
    /// The output projection times the factor of the queries: panels of features, rows are
    /// channels.
    pub(super) out: Block,
}

impl DirectBack {
    pub(super) fn new(isa: Isa, shape: &Shape, weights: &Weights<'_>) -> Self {
        let (c, inner) = (shape.c, shape.inner());
        let part = |part| columns(isa, [inner, c], |n, k| weights.entry(shape, part, n, k));
        DirectBack {
            qkv: [part(0), part(1), part(2)],
            out: columns(isa, [c, inner], |k, n| weights.out[k * inner + n] * shape.scale()),
        }
    }
}

/// Weights that the backward needs besides [`Folded`].
#[derive(Debug)]
pub(super) struct Unfolded {
    /// Queries and keys for the backward: panels of channels, rows are features.
    pub(super) queries: Block,
    pub(super) keys: Block,
    /// (n d) c
    pub(super) values: Block,
    /// The output projection times the factor of the queries, for each head panels of features,
    /// rows are channels.
    pub(super) out: Block,
}

impl Unfolded {
    pub(super) fn new(isa: Isa, shape: &Shape, weights: &Weights<'_>) -> Self {
        let (c, inner, dim, lanes) = (shape.c, shape.inner(), shape.dim, isa.lanes());
        let back = |part| columns(isa, [inner, c], |n, k| weights.entry(shape, part, n, k));
        let mut values = Block::new(inner * c);
        for (n, row) in values.as_mut_slice().chunks_exact_mut(c).enumerate() {
            for (k, x) in row.iter_mut().enumerate() {
                *x = weights.entry(shape, 2, n, k);
            }
        }
        let each = gemm::packed_columns(lanes, c, dim);
        let mut out = Block::new(shape.heads * each);
        for (head, panels) in out.as_mut_slice().chunks_exact_mut(each).enumerate() {
            gemm::pack_columns(lanes, [c, dim], panels, |k, e| {
                weights.out[k * inner + head * dim + e] * shape.scale()
            });
        }
        Unfolded { queries: back(0), keys: back(1), values, out }
    }
}
