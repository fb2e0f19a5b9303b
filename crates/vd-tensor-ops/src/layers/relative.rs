//! How far apart in time a query and a key are, as vectors that are learned.

use tch::{Kind, Tensor};

use super::indices::Indices;
use crate::{Error, Init, Result, Scope};

/// A learned vector for each distance of a key from a query, added to the key, and another one added
/// to the value; from some distance on they are the same. All heads share them.
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

/// Deviation of what the vectors start with, which the reference leaves open.
///
/// Normalised inputs and projections that are uniform within 1 / sqrt(c) make keys and values of
/// deviation 1 / sqrt(3): at 0.02 the vectors are a thirtieth of them, enough to tell frames apart
/// from the first step on, and nothing that content has to be heard over. One step of Adam moves an
/// entry by its rate, 3e-4 in the networks of Ho et al., so that 70 steps may double it.
const START: f64 = 0.02;

impl RelativeVectors {
    /// `rel_keys.weight` and `rel_values.weight` ((2 distance + 1) d): first the key that is
    /// furthest before its query, last the one furthest after it.
    ///
    /// # Range
    /// `distance`: 1 or more
    /// # Errors
    /// A distance out of its range; names that are taken.
    pub(super) fn new(scope: &mut Scope, dim: i64, distance: i64) -> Result<Self> {
        if distance < 1 {
            return Err(Error::Value {
                what: "distance from which on relative positions are the same".to_owned(),
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

    /// The row of a distance.
    fn row(&self, n: i64) -> i64 {
        n.clamp(-self.distance, self.distance) + self.distance
    }

    /// Some rows, of keys and of values.
    fn at(&self, rows: &Tensor) -> [Tensor; 2] {
        [&self.keys, &self.values].map(|table| table.index_select(0, rows))
    }

    /// Of the distances from 1 - f to f - 1, of keys and of values.
    ///
    /// # Shapes
    /// (2f - 1) d each
    pub(super) fn of_distances(&self, f: i64) -> [Tensor; 2] {
        let device = self.keys.device();
        self.at(&self.distances.of(f, device, || (1 - f..f).map(|n| self.row(n)).collect()))
    }

    /// Of all pairs of `f` frames, of keys and of values.
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

/// Products of each query with the vectors of its distances to all keys.
///
/// # Shapes
/// `q`: b s n f d; `keys`: f f d -> b s n f f
pub(super) fn scores(q: &Tensor, keys: &Tensor) -> Tensor {
    let (s, n) = (q.size()[1], q.size()[2]);
    let rows = q.permute([0, 3, 1, 2, 4]).flatten(2, 3); // b f (s n) d
    rows.matmul(&keys.transpose(1, 2)).unflatten(2, [s, n]).permute([0, 2, 3, 1, 4])
}

/// The vectors of each query's distances to all keys, under its weights.
///
/// # Shapes
/// `weights`: b s n f f; `values`: f f d -> b f s n d
pub(super) fn mixed(weights: &Tensor, values: &Tensor) -> Tensor {
    let (s, n) = (weights.size()[1], weights.size()[2]);
    let rows = weights.permute([0, 3, 1, 2, 4]).flatten(2, 3); // b f (s n) f
    rows.matmul(values).unflatten(2, [s, n])
}

/// Rotations of no feature, for kernels that turn as many as they are told.
///
/// # Shapes
/// f 0 2
pub(super) fn no_turns(f: i64, like: &Tensor) -> Tensor {
    Tensor::zeros([f, 0, 2], (Kind::Float, like.device()))
}
