//! Learned placeholders for missing conditioning.

use tch::Tensor;

use crate::kernels::cuda;

/// The placeholder `null` where the mask is true, `rows` elsewhere.
///
/// # Shapes
/// `rows`: b (1 or f) d; `null`: 1 d; `mask`: bool, b (1 or f) 1 -> b f d, or b 1 d if both have
/// one
/// # Panics
/// Shapes that do not match; a device error.
pub fn or_stand_in(rows: &Tensor, null: &Tensor, mask: &Tensor) -> Tensor {
    match cuda::stand_in_fits(rows, null, mask) {
        Some(on) => cuda::stand_in(&on, rows, null, mask),
        None => null.where_self(mask, rows),
    }
}
