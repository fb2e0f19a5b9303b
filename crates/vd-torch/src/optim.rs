//! Optimiser steps over whole lists of tensors in one call.

use tch::Tensor;

use crate::{Error, Result, shim};

/// The hyperparameters of one AdamW step.
///
/// # Reference
/// Loshchilov & Hutter 2019, algorithm 2, arXiv:1711.05101 (decay scaled by the learning rate).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// Added to the square root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

/// The tensors of one AdamW step; entry i of each list belongs to parameter i.
#[derive(Debug, Clone, Copy)]
pub struct AdamWState<'a> {
    /// Changed in place.
    pub params: &'a [Tensor],
    /// Gradients, with the parameters' shapes.
    pub grads: &'a [Tensor],
    /// First moments, changed in place.
    pub exp_avgs: &'a [Tensor],
    /// Second moments, changed in place.
    pub exp_avg_sqs: &'a [Tensor],
    /// Number of the step, from 1: f32 scalars, which the caller increments before the call.
    pub steps: &'a [Tensor],
}

/// One AdamW step on all parameters, in place, with libtorch's fused kernel.
///
/// # Errors
/// Lists of different lengths; tensors that are not contiguous, or whose shapes, dtypes or devices
/// do not match.
pub fn fused_adamw(step: &AdamWStep, state: AdamWState<'_>) -> Result<()> {
    let expected = state.params.len();
    let lists = [
        ("params", state.params),
        ("grads", state.grads),
        ("exp_avgs", state.exp_avgs),
        ("exp_avg_sqs", state.exp_avg_sqs),
        ("steps", state.steps),
    ];
    for (what, list) in lists {
        if list.len() != expected {
            return Err(Error::Length { what, expected, got: list.len() });
        }
        let fits = |(a, b): (&Tensor, &Tensor)| what == "steps" || a.size() == b.size();
        if !state.params.iter().zip(list).all(fits) {
            return Err(Error::Torch(format!(
                "{what}: a tensor differs from its parameter in shape"
            )));
        }
        // The kernel walks memory linearly and ignores strides.
        if !list.iter().all(Tensor::is_contiguous) {
            return Err(Error::Torch(format!("{what}: a tensor is not contiguous; copy it first")));
        }
    }
    let pointers = |list: &[Tensor]| list.iter().map(Tensor::as_ptr).collect::<Vec<_>>();
    let (params, grads) = (pointers(state.params), pointers(state.grads));
    let (exp_avgs, exp_avg_sqs) = (pointers(state.exp_avgs), pointers(state.exp_avg_sqs));
    let steps = pointers(state.steps);
    shim::call(|error| {
        // SAFETY: five arrays of `expected` pointers to tensors that are borrowed until the return.
        unsafe {
            shim::vd_fused_adamw(
                params.as_ptr().cast(),
                grads.as_ptr().cast(),
                exp_avgs.as_ptr().cast(),
                exp_avg_sqs.as_ptr().cast(),
                steps.as_ptr().cast(),
                expected as i64,
                step.lr,
                step.beta1,
                step.beta2,
                step.weight_decay,
                step.eps,
                error,
            )
        }
    })
}

/// Marks the values of these tensors as changed: values saved of them for a backward, or cached
/// under [their version](Tensor::internal_version), become stale. To be called after writing to
/// their memory directly; libtorch's operations do it themselves.
///
/// # Errors
/// A tensor without a version.
pub fn mark_changed<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<()> {
    let tensors: Vec<_> = tensors.into_iter().map(Tensor::as_ptr).collect();
    shim::call(|error| {
        // SAFETY: pointers to tensors that are borrowed until the return.
        unsafe { shim::vd_mark_changed(tensors.as_ptr().cast(), tensors.len() as i64, error) }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Deterministic values that are neither constant nor regular.
    fn values(seed: f64, n: usize) -> Vec<f64> {
        (0..n).map(|i| (seed + 1.7 * i as f64).sin() * (1.0 + (0.3 * i as f64).cos())).collect()
    }

    #[test]
    fn what_was_saved_of_a_tensor_that_was_marked_is_of_the_past() {
        let x = Tensor::from_slice(&values(0.3, 6)).set_requires_grad(true);
        let (part, y) = (x.detach().narrow(0, 1, 3), (&x * &x).sum(tch::Kind::Double));
        let before = [x.internal_version(), part.internal_version()];
        mark_changed([&x]).unwrap();
        assert_eq!([x.internal_version(), part.internal_version()], before.map(|v| v + 1));
        let said = y.f_backward().unwrap_err().to_string();
        assert!(said.contains("modified by an inplace operation"), "{said}");
    }

    #[test]
    fn fused_step_equals_the_published_algorithm() {
        let step = AdamWStep { lr: 3e-3, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.05 };
        let sizes = [7usize, 30];
        let params: Vec<_> = sizes.iter().map(|n| Tensor::from_slice(&values(0.4, *n))).collect();
        let zeros = |_: &usize| Tensor::from_slice(&[0.0f64]);
        let mut steps: Vec<_> =
            sizes.iter().map(zeros).map(|t| t.to_kind(tch::Kind::Float)).collect();
        let (m, v): (Vec<_>, Vec<_>) =
            params.iter().map(|p| (p.zeros_like(), p.zeros_like())).unzip();
        let mut by_hand: Vec<_> =
            sizes.iter().map(|n| (values(0.4, *n), vec![0.0; *n], vec![0.0; *n])).collect();
        for k in 1..=5 {
            let grads: Vec<_> =
                sizes.iter().map(|n| Tensor::from_slice(&values(k as f64, *n))).collect();
            for s in &mut steps {
                let _ = s.f_add_scalar_(1.0).unwrap();
            }
            let state = AdamWState {
                params: &params,
                grads: &grads,
                exp_avgs: &m,
                exp_avg_sqs: &v,
                steps: &steps,
            };
            fused_adamw(&step, state).unwrap();
            for (n, (p, m, v)) in sizes.iter().zip(&mut by_hand) {
                for (i, g) in values(k as f64, *n).iter().enumerate() {
                    p[i] -= step.lr * step.weight_decay * p[i];
                    m[i] = step.beta1 * m[i] + (1.0 - step.beta1) * g;
                    v[i] = step.beta2 * v[i] + (1.0 - step.beta2) * g * g;
                    let mean = m[i] / (1.0 - step.beta1.powi(k));
                    let root = (v[i] / (1.0 - step.beta2.powi(k))).sqrt();
                    p[i] -= step.lr * mean / (root + step.eps);
                }
            }
        }
        for (tensor, (expected, ..)) in params.iter().zip(&by_hand) {
            let got: Vec<f64> = tensor.try_into().unwrap();
            for (a, b) in got.iter().zip(expected) {
                assert!((a - b).abs() < 1e-12, "{a} {b}");
            }
        }
    }

    #[test]
    fn lists_that_do_not_belong_together_are_refused() {
        let p = [Tensor::from_slice(&values(0.0, 3))];
        let g = [Tensor::from_slice(&values(0.0, 4))];
        let step = AdamWStep { lr: 1.0, beta1: 0.9, beta2: 0.9, eps: 1e-8, weight_decay: 0.0 };
        let state = AdamWState { params: &p, grads: &g, exp_avgs: &p, exp_avg_sqs: &p, steps: &p };
        assert!(fused_adamw(&step, state).unwrap_err().to_string().contains("grads"));
        let state = AdamWState { steps: &[], ..state };
        assert!(fused_adamw(&step, AdamWState { grads: &p, ..state }).is_err());

        let square = [Tensor::from_slice(&values(0.0, 4)).view([2, 2])];
        let turned = [square[0].transpose(0, 1)];
        let steps = [Tensor::from(1f32)];
        let state = AdamWState {
            params: &square,
            grads: &turned,
            exp_avgs: &square,
            exp_avg_sqs: &square,
            steps: &steps,
        };
        assert!(fused_adamw(&step, state).unwrap_err().to_string().contains("not contiguous"));
    }
}
