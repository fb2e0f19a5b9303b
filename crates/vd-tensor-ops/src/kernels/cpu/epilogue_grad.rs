//! The gradient of the operations after a convolution.

use super::{Simd, Work};

/// Gradients of positions: that of the convolution's output, and the sums over positions for gains,
/// shifts and the convolution's bias.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowsGrad {
    /// The convolution's output, and the gradient of the result.
    pub(crate) x: *const f32,
    pub(crate) grad: *const f32,
    /// Rows of c, for `images_per_row` images each.
    pub(crate) gain: *const f32,
    /// Or null.
    pub(crate) shift: *const f32,
    pub(crate) images_per_row: usize,
    /// Positions of an image, and channels.
    pub(crate) shape: (usize, usize),
    /// The gradient of `x`.
    pub(crate) out: *mut f32,
    /// Sums of this thread, accumulated: rows of c for gains and shifts, c for the bias.
    pub(crate) gains: *mut f32,
    pub(crate) shifts: *mut f32,
    pub(crate) bias: *mut f32,
    /// The range of positions.
    pub(crate) range: (usize, usize),
}

impl RowsGrad {
    /// # Safety
    /// As [`Simd`]; the pointers are valid for the position; `inner` for c values.
    #[inline(always)]
    unsafe fn position<S: Simd>(&self, position: usize, inner: *mut f32) {
        let (area, c) = self.shape;
        let row = position / area / self.images_per_row * c;
        // SAFETY: guaranteed by the caller.
        unsafe {
            let (x, grad) = (self.x.add(position * c), self.grad.add(position * c));
            let out = self.out.add(position * c);
            let (gain, gains) = (self.gain.add(row), self.gains.add(row));
            let shifts = self.shifts.add(row);
            let mut squares = S::zero();
            for k in (0..c).step_by(S::LANES) {
                let x = S::load(x.add(k));
                squares = S::fma(x, x, squares);
            }
            let length = S::sum(squares).sqrt();
            let unit = S::splat(1.0 / length.max(1e-12));
            let mut along = S::zero();
            for k in (0..c).step_by(S::LANES) {
                let (normal, gain) = (S::mul(S::load(x.add(k)), unit), S::load(gain.add(k)));
                let z = if self.shift.is_null() {
                    S::mul(normal, gain)
                } else {
                    S::fma(normal, gain, S::load(self.shift.add(row + k)))
                };
                let d = S::mul(silu_slope::<S>(z), S::load(grad.add(k)));
                S::store(shifts.add(k), S::add(S::load(shifts.add(k)), d));
                S::store(gains.add(k), S::fma(d, normal, S::load(gains.add(k))));
                let d = S::mul(d, gain);
                along = S::fma(d, normal, along);
                S::store(inner.add(k), d);
            }
            // Below the bound the length is a constant.
            let along = S::splat(if length > 1e-12 { S::sum(along) } else { 0.0 });
            for k in (0..c).step_by(S::LANES) {
                let normal = S::mul(S::load(x.add(k)), unit);
                let d = S::mul(unit, S::fnma(normal, along, S::load(inner.add(k))));
                S::store(out.add(k), d);
                S::store(self.bias.add(k), S::add(S::load(self.bias.add(k)), d));
            }
        }
    }
}

/// The derivative of SiLU: s (1 + z (1 - s)), s = 1 / (1 + e^-z).
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn silu_slope<S: Simd>(z: S::V) -> S::V {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let one = S::splat(1.0);
        let s = S::div(one, S::add(one, S::exp(S::sub(S::zero(), z))));
        S::mul(s, S::fma(z, S::sub(one, s), one))
    }
}

impl Work for RowsGrad {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let mut inner = super::Scratch::take(self.shape.1);
        for position in self.range.0..self.range.1 {
            // SAFETY: guaranteed by the caller.
            unsafe { self.position::<S>(position, inner.as_mut_ptr()) }
        }
    }
}
