//! Learned vectors for the distance in time between a query and a key.

use tch::{Kind, Tensor};

use super::indices::{Indices, look_up};
use crate::{Error, Init, Result, Scope};

/// For each distance between key and query, one learned vector that is added to the key and another
/// that is added to the value; beyond a maximum distance they are clamped. All heads share them.
///
/// # Reference
/// Shaw, Uszkoreit & Vaswani 2018, equations 3 to 5, arXiv:1803.02155.
#[derive(Debug)]
pub(super) struct RelativeVectors {
    keys: Tensor,
    values: Tensor,
    distance: i64,
    distances: Indices,
    pairs: Indices,
}

/// Standard deviation of the initial vectors, which the reference does not specify.
///
/// Normalised inputs and projections that are uniform within 1 / sqrt(c) give keys and values a
/// deviation of 1 / sqrt(3): at 0.02 the vectors are about a thirtieth of that, enough to tell
/// frames apart from the first step on without drowning the content. One step of Adam moves an
/// entry by its rate, 3e-4 in the networks of Ho et al., so 70 steps may double it.
const START: f64 = 0.02;

impl RelativeVectors {
    /// `rel_keys.weight` and `rel_values.weight` ((2 distance + 1) d): first the key that is
    /// furthest before its query, last the one furthest after it.
    ///
    /// # Range
    /// `distance`: 1 or more
    /// # Errors
    /// A distance out of range; names that are taken.
    pub(super) fn new(scope: &mut Scope, dim: i64, distance: i64) -> Result<Self> {
        if distance < 1 {
            return Err(Error::Value {
                what: "distance from which relative positions are the same".to_owned(),
                expected: "at least 1".to_owned(),
                got: distance.to_string(),
            });
        }
        let (shape, init) = ([2 * distance + 1, dim], Init::NormalOf { std: START });
        let mut table = |name: &str| scope.sub(name).param("weight", &shape, init);
        let (keys, values) = (table("rel_keys")?, table("rel_values")?);
        let (distances, pairs) = (Indices::default(), Indices::default());
        Ok(RelativeVectors { keys, values, distance, distances, pairs })
    }

    /// The vectors of keys and of values.
    pub(super) fn tables(&self) -> [&Tensor; 2] {
        [&self.keys, &self.values]
    }

    /// The row of a distance.
    fn row(&self, n: i64) -> i64 {
        n.clamp(-self.distance, self.distance) + self.distance
    }

    /// The given rows, of keys and of values.
    fn at(&self, rows: &Tensor) -> [Tensor; 2] {
        [&self.keys, &self.values].map(|table| look_up(table, rows))
    }

    /// The vectors of the distances from 1 - f to f - 1, for keys and for values.
    ///
    /// # Shapes
    /// (2f - 1) d each
    pub(super) fn of_distances(&self, f: i64) -> [Tensor; 2] {
        let device = self.keys.device();
        self.at(&self.distances.of(f, device, || (1 - f..f).map(|n| self.row(n)).collect()))
    }

    /// The vectors of all pairs of `f` frames, for keys and for values.
    ///
    /// # Shapes
    /// f f d each: queries along the first axis, keys along the second
    pub(super) fn of_pairs(&self, f: i64) -> [Tensor; 2] {
        let rows = self.pairs.of(f, self.keys.device(), || {
            let pairs = (0..f).flat_map(|i| (0..f).map(move |j| j - i));
            pairs.map(|n| self.row(n)).collect()
        });
        self.at(&rows).map(|t| t.unflatten(0, [f, f]))
    }
}

/// Dot products of each query with the vectors of its distances to all keys.
///
/// # Shapes
/// `q`: b s n f d; `keys`: f f d -> b s n f f
pub(super) fn scores(q: &Tensor, keys: &Tensor) -> Tensor {
    let (s, n) = (q.size()[1], q.size()[2]);
    let rows = q.permute([0, 3, 1, 2, 4]).flatten(2, 3); // b f (s n) d
    rows.matmul(&keys.transpose(1, 2)).unflatten(2, [s, n]).permute([0, 2, 3, 1, 4])
}

/// For each query, the sum of the vectors of its distances to all keys, weighted by its attention.
///
/// # Shapes
/// `weights`: b s n f f; `values`: f f d -> b f s n d
pub(super) fn mixed(weights: &Tensor, values: &Tensor) -> Tensor {
    let (s, n) = (weights.size()[1], weights.size()[2]);
    let rows = weights.permute([0, 3, 1, 2, 4]).flatten(2, 3); // b f (s n) f
    rows.matmul(values).unflatten(2, [s, n])
}

/// Empty rotations, for kernels that rotate as many features as they are given angles for.
///
/// # Shapes
/// f 0 2
pub(super) fn no_turns(f: i64, like: &Tensor) -> Tensor {
    Tensor::zeros([f, 0, 2], (Kind::Float, like.device()))
}
