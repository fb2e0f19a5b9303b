//! Gradients against finite differences.

use tch::{Kind, Tensor};
use vd_tensor_ops::{Params, derive_seed};

use super::draw::normal;

/// Step along a unit direction of values of order 1.
const STEP: f64 = 1e-4;
/// One rounding of an f64.
const U64: f64 = 1.11e-16;

/// What [`check`] found, worst first.
#[derive(Debug)]
pub struct Found {
    /// The largest |autograd - difference| over the size of all derivatives.
    pub worst: f64,
    /// How many tensors were checked.
    pub tensors: usize,
}

/// Holds the gradient of a random projection of `answer()` with respect to every named tensor
/// against central differences along a random direction.
///
/// Differences of steps h and 2h, D(h) = D + a h^2 + O(h^4), combine to D without a; what the
/// combination leaves is below |D(2h) - D(h)|, and rounding adds u times the terms of the
/// projection over h. Together they are the tolerance, which must be small itself.
pub fn check(
    what: &str,
    tensors: &[(String, Tensor)],
    seed: u64,
    answer: &dyn Fn() -> Tensor,
) -> Found {
    let outcome = answer();
    let weights = normal(derive_seed(seed, &[0]), &outcome.size());
    let project = |y: &Tensor| (y * &weights).sum(Kind::Double);
    let leaves: Vec<&Tensor> = tensors.iter().map(|(_, t)| t).collect();
    let gradients = Tensor::run_backward(&[project(&outcome)], &leaves, false, false);
    let terms = (&outcome * &weights).abs().sum(Kind::Double).double_value(&[]);

    let mut found = Found { worst: 0.0, tensors: tensors.len() };
    for (i, ((name, tensor), gradient)) in tensors.iter().zip(&gradients).enumerate() {
        let direction = normal(derive_seed(seed, &[1, i as u64]), &tensor.size());
        let direction = &direction / direction.norm();
        let slope = (gradient * &direction).sum(Kind::Double).double_value(&[]);
        let (start, mut place) = (tensor.detach().copy(), tensor.detach());
        let mut at = |h: f64| {
            place.copy_(&(&start + &direction * h));
            tch::no_grad(|| project(&answer()).double_value(&[]))
        };
        let mut central = |h: f64| (at(h) - at(-h)) / (2.0 * h);
        let (near, far) = (central(STEP), central(2.0 * STEP));
        place.copy_(&start);

        let difference = (4.0 * near - far) / 3.0;
        let size = gradient.norm().double_value(&[]).max(slope.abs());
        // Each value of the answer carries some tens of roundings.
        let tolerance = (far - near).abs() + 64.0 * U64 * terms / STEP;
        assert!(
            tolerance <= 1e-5 * (size + 1e-3 * terms),
            "{what}, {name}: differences are too coarse ({tolerance:e} for {size:e})"
        );
        let error = (slope - difference).abs();
        assert!(
            error <= tolerance,
            "{what}, {name}: autograd {slope:e}, difference {difference:e}, tolerance {tolerance:e}"
        );
        found.worst = found.worst.max(error / (size + f64::MIN_POSITIVE));
    }
    found
}

/// Handles on the trained parameters, and `x` as one more leaf.
pub fn leaves(params: &Params, x: &Tensor) -> Vec<(String, Tensor)> {
    let trained = params.trainable().into_iter();
    let mut out: Vec<_> = trained.map(|(name, t)| (name.to_owned(), t.shallow_clone())).collect();
    out.push(("input".to_owned(), x.shallow_clone()));
    out
}
