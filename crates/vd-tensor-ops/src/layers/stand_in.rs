//! What a network shows where it is told nothing.

use tch::Tensor;

use crate::kernels::cuda;

/// The stand-in where the mask is true, the rows elsewhere.
///
/// # Shapes
/// `rows`: b (1 or f) d; `null`: 1 d; `mask`: bool, b (1 or f) 1 -> b f d, or b 1 d where both have
/// one
/// # Panics
/// Shapes that do not go together; a device that fails.
pub fn or_stand_in(rows: &Tensor, null: &Tensor, mask: &Tensor) -> Tensor {
    match cuda::stand_in_fits(rows, null, mask) {
        Some(on) => cuda::stand_in(&on, rows, null, mask),
        None => null.where_self(mask, rows),
    }
}
