//! Layers to test, and what arithmetic may do to them.

use tch::Kind;
use vd_tensor_ops::torch::testing::{self, device};
use vd_tensor_ops::{Params, Result, Scope};

use super::draw::{one_thread, perturb};
use super::{U32, Weights};

/// Relative difference that f64 arithmetic explains.
pub const EXACT: f64 = 1e-13;
pub const KINDS: [Kind; 2] = [Kind::Double, Kind::Float];

/// A layer moved away from its start, and its weights for the twin.
pub fn build<L>(kind: Kind, seed: u64, new: impl Fn(&mut Scope) -> Result<L>) -> (L, Weights) {
    one_thread();
    let mut params = Params::new(seed, kind, device());
    let layer = new(&mut params.root()).unwrap();
    perturb(&params, seed ^ 0xFACE);
    (layer, Weights::of(&params))
}

/// What arithmetic of a kind explains, relative to the size of the answer.
///
/// In f32 to first order: each stage of the chain rounds once for every term of its sums, and an
/// error of a score, relative to the largest, is one of a weight. Cancellation inside the sums
/// makes errors larger and averaging makes them smaller; neither is counted. Measured: below a
/// fortieth of this in attentions over positions and frames alone, below a half of it in 600 draws
/// of those with a text or a memory, whose smallest answers are a single number that may cancel.
pub fn tolerance(kind: Kind, terms: i64, largest_score: f64) -> f64 {
    match kind {
        Kind::Double => EXACT * (1.0 + largest_score),
        _ => testing::tolerance((terms + 32) as f64 * U32 * (1.0 + largest_score)),
    }
}
