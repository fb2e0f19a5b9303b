//! Matrix products as functions of their own, so that each is compiled once.

use crate::kernels::cpu::{Simd, Work, gemm};

/// c (+)= a b: `a` may have any strides, rows of `b` and `c` are contiguous.
///
/// Columns are processed in whole vectors: rows of `b` and `c` are valid for `n` rounded up to
/// them.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels::cpu) struct Product {
    /// Pointer, stride between rows, stride along a row.
    pub(in crate::kernels::cpu) a: (*const f32, usize, usize),
    pub(in crate::kernels::cpu) b: (*const f32, usize),
    pub(in crate::kernels::cpu) c: (*mut f32, usize),
    /// Rows, columns, and the inner axis.
    pub(in crate::kernels::cpu) shape: [usize; 3],
    /// Whether to add to `c`.
    pub(in crate::kernels::cpu) add: bool,
}

impl Product {
    #[inline(always)]
    unsafe fn columns<S: Simd, const Z: usize>(&self, from: usize) {
        let [m, _, k] = self.shape;
        // SAFETY: guaranteed by the caller.
        unsafe {
            let (b, c) = ((self.b.0.add(from), self.b.1), (self.c.0.add(from), self.c.1));
            if self.add {
                gemm::rows::<S, Z, true>(self.a, b, c, (m, k));
            } else {
                gemm::rows::<S, Z, false>(self.a, b, c, (m, k));
            }
        }
    }
}

impl Work for Product {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let vectors = self.shape[1].div_ceil(S::LANES);
        for pair in 0..vectors / 2 {
            // SAFETY: guaranteed by the caller.
            unsafe { self.columns::<S, 2>(pair * 2 * S::LANES) };
        }
        if vectors % 2 == 1 {
            // SAFETY: guaranteed by the caller.
            unsafe { self.columns::<S, 1>((vectors - 1) * S::LANES) };
        }
    }
}

/// c (+)= a b where `b` is from [`gemm::pack_columns`]; otherwise as [`Product`].
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels::cpu) struct Panels {
    /// Pointer, stride between rows, stride along a row.
    pub(in crate::kernels::cpu) a: (*const f32, usize, usize),
    pub(in crate::kernels::cpu) b: *const f32,
    pub(in crate::kernels::cpu) c: (*mut f32, usize),
    /// Rows, columns, and the inner axis.
    pub(in crate::kernels::cpu) shape: [usize; 3],
    /// Whether to add to `c`.
    pub(in crate::kernels::cpu) add: bool,
}

impl Work for Panels {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let ([m, n, k], width) = (self.shape, gemm::panel::<S>());
        for panel in 0..n.div_ceil(width) {
            let columns = width.min(n - panel * width);
            // SAFETY: guaranteed by the caller; a panel is k rows of its width.
            unsafe {
                let b = (self.b.add(panel * width * k), width);
                let c = (self.c.0.add(panel * width), self.c.1);
                S::call(Product { a: self.a, b, c, shape: [m, columns, k], add: self.add });
            }
        }
    }
}

/// c = a b where `a` is from [`gemm::pack_rows`], and rows of `b` and `c` are a panel of positions.
#[derive(Debug, Clone, Copy)]
pub(in crate::kernels::cpu) struct Stack {
    pub(in crate::kernels::cpu) a: *const f32,
    pub(in crate::kernels::cpu) b: (*const f32, usize),
    /// Valid for `m` rounded up to whole blocks of rows.
    pub(in crate::kernels::cpu) c: (*mut f32, usize),
    /// Rows, and the inner axis.
    pub(in crate::kernels::cpu) m: usize,
    pub(in crate::kernels::cpu) k: usize,
}

impl Work for Stack {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: guaranteed by the caller.
        unsafe { gemm::by_rows::<S, 2, false>(self.a, self.b, self.c, (self.m, self.k)) };
    }
}
