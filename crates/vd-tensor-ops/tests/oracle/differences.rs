//! Gradients against finite differences.

use tch::{Kind, Tensor};
use vd_tensor_ops::{Params, derive_seed};

use super::draw::normal;

/// Step along a unit direction of values of order 1.
const STEP: f64 = 1e-4;
/// One rounding of an f64.
const U64: f64 = 1.11e-16;

/// Holds the gradient of a random projection of `answer()` with respect to every named tensor
/// against central differences along a random direction of that tensor alone.
pub fn check(what: &str, tensors: &[(String, Tensor)], seed: u64, answer: &dyn Fn() -> Tensor) {
    let probe = Probe::new(tensors, seed, answer);
    for (i, (name, tensor)) in tensors.iter().enumerate() {
        let direction = normal(derive_seed(seed, &[1, i as u64]), &tensor.size());
        let direction = &direction / direction.norm();
        probe.holds(&format!("{what}, {name}"), &[(i, direction)]);
    }
}

/// The same along `directions` random directions of all tensors together.
pub fn check_together(
    what: &str,
    tensors: &[(String, Tensor)],
    (seed, directions): (u64, u64),
    answer: &dyn Fn() -> Tensor,
) {
    let probe = Probe::new(tensors, seed, answer);
    let count: usize = tensors.iter().map(|(_, t)| t.numel()).sum();
    for k in 0..directions {
        let moves = tensors.iter().enumerate().map(|(i, (_, tensor))| {
            let draw = normal(derive_seed(seed, &[2, k, i as u64]), &tensor.size());
            (i, draw / (count as f64).sqrt())
        });
        probe.holds(&format!("{what}, direction {k}"), &moves.collect::<Vec<_>>());
    }
}

struct Probe<'a> {
    tensors: &'a [(String, Tensor)],
    answer: &'a dyn Fn() -> Tensor,
    weights: Tensor,
    gradients: Vec<Tensor>,
    /// The sizes of the terms of the projection, added up.
    terms: f64,
}

impl<'a> Probe<'a> {
    fn new(tensors: &'a [(String, Tensor)], seed: u64, answer: &'a dyn Fn() -> Tensor) -> Self {
        let outcome = answer();
        let weights = normal(derive_seed(seed, &[0]), &outcome.size());
        let leaves: Vec<&Tensor> = tensors.iter().map(|(_, t)| t).collect();
        let projection = &outcome * &weights;
        let value = projection.sum(Kind::Double);
        let gradients = Tensor::run_backward(&[value], &leaves, false, false);
        let terms = projection.abs().sum(Kind::Double).double_value(&[]);
        Probe { tensors, answer, weights, gradients, terms }
    }

    /// Differences of steps h and 2h, D(h) = D + a h^2 + O(h^4), combine to D without a; what the
    /// combination leaves is below |D(2h) - D(h)|, and rounding adds u times the terms of the
    /// projection over h. Together they are the tolerance, which must be small itself.
    fn holds(&self, what: &str, moves: &[(usize, Tensor)]) {
        let along = |(i, direction): &(usize, Tensor)| {
            (&self.gradients[*i] * direction).sum(Kind::Double).double_value(&[])
        };
        let slope: f64 = moves.iter().map(along).sum();
        let squares =
            moves.iter().map(|(i, _)| self.gradients[*i].norm().double_value(&[]).powi(2));
        let size = squares.sum::<f64>().sqrt();
        let start: Vec<Tensor> =
            moves.iter().map(|(i, _)| self.tensors[*i].1.detach().copy()).collect();
        let at = |h: f64| {
            for ((i, direction), start) in moves.iter().zip(&start) {
                self.tensors[*i].1.detach().copy_(&(start + direction * h));
            }
            let outcome = tch::no_grad(|| (self.answer)());
            (outcome * &self.weights).sum(Kind::Double).double_value(&[])
        };
        let central = |h: f64| (at(h) - at(-h)) / (2.0 * h);
        let (near, far) = (central(STEP), central(2.0 * STEP));
        at(0.0);

        let difference = (4.0 * near - far) / 3.0;
        // Each value of the answer carries some tens of roundings.
        let tolerance = (far - near).abs() + 64.0 * U64 * self.terms / STEP;
        let coarse = 1e-5 * (size + 1e-3 * self.terms);
        assert!(
            tolerance <= coarse,
            "{what}: differences are too coarse: {tolerance:e} of {size:e}"
        );
        let error = (slope - difference).abs();
        assert!(
            error <= tolerance,
            "{what}: autograd {slope:e}, difference {difference:e}, tolerance {tolerance:e}"
        );
    }
}

/// Handles on the trained parameters, and `x` as one more leaf.
pub fn leaves(params: &Params, x: &Tensor) -> Vec<(String, Tensor)> {
    let trained = params.trainable().into_iter();
    let mut out: Vec<_> = trained.map(|(name, t)| (name.to_owned(), t.shallow_clone())).collect();
    out.push(("input".to_owned(), x.shallow_clone()));
    out
}
