//! The operations after a convolution, one position at a time while its channels are in the cache.

use super::{Isa, Simd, Work};

/// Norm, scale, shift, SiLU and residual of positions.
///
/// y = silu(x / max(|x|, 1e-12) gain + shift) + residual
#[derive(Debug, Clone, Copy)]
pub(crate) struct Epilogue {
    /// Gains, rows of c: the norm's own times sqrt(c), times (1 + the embedding's scale).
    pub(crate) gain: *const f32,
    /// Shifts, rows of c, or null.
    pub(crate) shift: *const f32,
    /// Images that share a row of gains and shifts.
    pub(crate) images_per_row: usize,
    /// Added at the end, laid out as the output, or null.
    pub(crate) residual: *const f32,
}

impl Epilogue {
    /// # Safety
    /// As [`Simd`]; `x` and `y` are valid for c values, c a multiple of the lanes; the pointers of
    /// `self` for the row of `image` and `at` + c values.
    #[inline(always)]
    pub(crate) unsafe fn apply<S: Simd>(
        &self,
        x: *const f32,
        y: *mut f32,
        c: usize,
        (image, at): (usize, usize),
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let row = image / self.images_per_row * c;
            let gain = self.gain.add(row);
            let mut squares = S::zero();
            for k in (0..c).step_by(S::LANES) {
                let x = S::load(x.add(k));
                squares = S::fma(x, x, squares);
            }
            let unit = S::splat(1.0 / S::sum(squares).sqrt().max(1e-12));
            for k in (0..c).step_by(S::LANES) {
                let normal = S::mul(S::load(x.add(k)), unit);
                let gain = S::load(gain.add(k));
                let z = if self.shift.is_null() {
                    S::mul(normal, gain)
                } else {
                    S::fma(normal, gain, S::load(self.shift.add(row + k)))
                };
                let mut out = S::silu(z);
                if !self.residual.is_null() {
                    out = S::add(out, S::load(self.residual.add(at + k)));
                }
                S::store(y.add(k), out);
            }
        }
    }
}

/// The same over whole videos.
pub(crate) struct Rows {
    pub(crate) epilogue: Epilogue,
    pub(crate) x: *const f32,
    pub(crate) y: *mut f32,
    /// Positions of an image, and channels.
    pub(crate) shape: (usize, usize),
    /// The range of positions.
    pub(crate) range: (usize, usize),
}

impl Work for Rows {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (area, c) = self.shape;
        for position in self.range.0..self.range.1 {
            let at = position * c;
            // SAFETY: guaranteed by the caller; positions are within the videos.
            unsafe {
                let (x, y) = (self.x.add(at), self.y.add(at));
                self.epilogue.apply::<S>(x, y, c, (position / area, at));
            }
        }
    }
}

/// Whether the kernels support this number of channels.
pub(crate) fn fits(isa: Isa, channels: usize) -> bool {
    channels > 0 && channels.is_multiple_of(isa.lanes())
}
