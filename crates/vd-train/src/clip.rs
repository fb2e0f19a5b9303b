//! The global gradient norm and its clipping.

use tch::{Kind, Tensor};

use crate::Result;

/// The norm of all gradients as one vector, in f64, as a scalar on their device.
///
/// # Errors
/// An error of libtorch.
pub fn global_norm(grads: &[Tensor]) -> Result<Tensor> {
    let norms: Vec<_> = grads
        .iter()
        .map(|g| g.f_norm_scalaropt_dtype(2, Kind::Double))
        .collect::<std::result::Result<_, _>>()?;
    if norms.is_empty() {
        return Ok(Tensor::from(0f64));
    }
    Ok(Tensor::f_stack(&norms, 0)?.f_norm()?)
}

/// The factor that reduces gradients of norm `norm` to the norm `max`; 1 for smaller ones.
///
/// # Reference
/// Pascanu et al. 2013, algorithm 1, arXiv:1211.5063.
pub fn shrink_to_norm(norm: f64, max: f64) -> f64 {
    if norm > max { max / norm } else { 1.0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tch::Device;
    use vd_tensor_ops::{Noise, SeededNoise};

    #[test]
    fn the_norm_is_that_of_one_vector_and_is_shrunk_to_the_bound() {
        let like = |n: i64| Tensor::empty([n], (Kind::Float, Device::Cpu));
        let grads = [24, 3].map(|n| SeededNoise::new(8, n as u64).normal(&like(n)));
        let norm = global_norm(&grads).unwrap().double_value(&[]);
        let sum: f64 = grads
            .iter()
            .map(|g| (g.to_kind(Kind::Double) * g).sum(Kind::Double).double_value(&[]))
            .sum();
        assert!((norm - sum.sqrt()).abs() < 1e-12 * norm);
        assert_eq!(shrink_to_norm(norm, norm * 1.01), 1.0);
        assert!((shrink_to_norm(norm, 0.5) * norm - 0.5).abs() < 1e-12);
    }
}
