//! Matrix products of a unit: by packed weights, lane by lane, and over its columns.

use crate::kernels::cpu::{Simd, Work, gemm};

/// Vectors with stride `row` in one direction and `step` in the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid<P> {
    pub(super) at: P,
    pub(super) row: usize,
    pub(super) step: usize,
}

/// c = or += a b, where the rows of `b` and `c` hold columns in vectors: `a` is from
/// [`gemm::pack_rows`].
pub(super) struct Product {
    pub(super) a: *const f32,
    /// Pointer, and stride between rows.
    pub(super) b: (*const f32, usize),
    pub(super) c: (*mut f32, usize),
    /// Rows of `a`, and of `b`.
    pub(super) shape: (usize, usize),
    /// Columns, in whole vectors.
    pub(super) columns: usize,
    pub(super) add: bool,
}

impl Work for Product {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let ((b, b_row), (c, c_row)) = (self.b, self.c);
        for first in (0..self.columns).step_by(gemm::panel::<S>()) {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let (b, c) = ((b.add(first), b_row), (c.add(first), c_row));
                match (self.columns - first > S::LANES, self.add) {
                    (true, false) => gemm::by_rows::<S, 2, false>(self.a, b, c, self.shape),
                    (true, true) => gemm::by_rows::<S, 2, true>(self.a, b, c, self.shape),
                    (false, false) => gemm::by_rows::<S, 1, false>(self.a, b, c, self.shape),
                    (false, true) => gemm::by_rows::<S, 1, true>(self.a, b, c, self.shape),
                }
            }
        }
    }
}

/// c[i][j] = sum over k of a[i][k] b[j][k], each a vector.
pub(super) struct Dots {
    pub(super) a: Grid<*const f32>,
    pub(super) b: Grid<*const f32>,
    pub(super) c: Grid<*mut f32>,
    /// Of i, j and k.
    pub(super) shape: [usize; 3],
}

/// The next part, when `rest` is divided into as few equal parts as possible with at most `most`
/// each.
#[inline(always)]
pub(super) fn part(rest: usize, most: usize) -> usize {
    rest.div_ceil(rest.div_ceil(most))
}

impl Dots {
    #[inline(always)]
    unsafe fn tile<S: Simd, const I: usize, const J: usize>(&self, i: usize, j: usize) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let (a, b) = (self.a.at.add(i * self.a.row), self.b.at.add(j * self.b.row));
            let mut sum = [[S::zero(); J]; I];
            for k in 0..self.shape[2] {
                let (a, b) = (a.add(k * self.a.step), b.add(k * self.b.step));
                let b: [S::V; J] = std::array::from_fn(|j| S::load(b.add(j * self.b.row)));
                for (i, sum) in sum.iter_mut().enumerate() {
                    let a = S::load(a.add(i * self.a.row));
                    for (sum, b) in sum.iter_mut().zip(b) {
                        *sum = S::fma(a, b, *sum);
                    }
                }
            }
            let c = self.c.at.add(i * self.c.row + j * self.c.step);
            for (i, sum) in sum.iter().enumerate() {
                for (j, sum) in sum.iter().enumerate() {
                    S::store(c.add(i * self.c.row + j * self.c.step), *sum);
                }
            }
        }
    }
}

impl Work for Dots {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let [m, n, _] = self.shape;
        // As many operands as there are registers: 32, or at most 16.
        let most = if S::ROWS == 14 { 4 } else { 3 };
        let mut i = 0;
        while i < m {
            let rows = part(m - i, 4);
            let mut j = 0;
            while j < n {
                let columns = part(n - j, most);
                macro_rules! tiles {
                    ($(($i:literal $j:literal))*) => {
                        match (rows, columns) {
                            // SAFETY: guaranteed by the caller.
                            $(($i, $j) => unsafe { self.tile::<S, $i, $j>(i, j) },)*
                            _ => unreachable!("parts are of 1 to 4"),
                        }
                    };
                }
                tiles!((1 1)(1 2)(1 3)(1 4)(2 1)(2 2)(2 3)(2 4)(3 1)(3 2)(3 3)(3 4)(4 1)(4 2)(4 3)(4 4));
                j += columns;
            }
            i += rows;
        }
    }
}
/// c += a b over the columns of a unit: rows of `a` hold columns, `b` is channels last.
pub(super) struct Outer {
    /// Pointer, and stride between rows.
    pub(super) a: (*const f32, usize),
    pub(super) b: (*const f32, usize),
    pub(super) c: (*mut f32, usize),
    /// Rows of `c`, channels, columns.
    pub(super) shape: [usize; 3],
}

impl Work for Outer {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let ([m, n, k], width) = (self.shape, gemm::panel::<S>());
        let a = (self.a.0, self.a.1, 1);
        for first in (0..n).step_by(width) {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let (b, c) = ((self.b.0.add(first), self.b.1), (self.c.0.add(first), self.c.1));
                if n - first >= width {
                    gemm::rows::<S, 2, true>(a, b, c, (m, k));
                } else {
                    gemm::rows::<S, 1, true>(a, b, c, (m, k));
                }
            }
        }
    }
}
