//! Matrix products of operands that are packed for the caches.
//!
//! Both kinds keep a tile of `ROWS` rows by two vectors of columns in registers, and traverse the
//! inner axis once.

use std::arch::asm;

use super::Simd;

/// Columns of a panel: two vectors.
pub(crate) const fn panel<S: Simd>() -> usize {
    2 * S::LANES
}

/// The pointer `n` values after `at`, in a register of its own.
///
/// If the compiler sees what the rows have in common, it computes an address for each of them at
/// every step, which costs as many instructions as the loads do.
#[inline(always)]
#[allow(clippy::pointers_in_nomem_asm_block, reason = "nothing is read or written")]
fn moved(at: *const f32, n: usize) -> *const f32 {
    let mut at = at.wrapping_add(n);
    // SAFETY: no instruction at all.
    unsafe {
        asm!("/* {at} */", at = inout(reg) at, options(pure, nomem, nostack, preserves_flags))
    };
    at
}

/// A tile: c[i][..] (+)= sum over k of a[i row + k step] b[k][..], `M` rows by `Z` vectors.
///
/// # Safety
/// As [`Simd`]; `a` is valid for (M - 1) row + (k - 1) step + 1 values, `b` for k rows `b_row`
/// apart, `c` for `M` rows `c_row` apart.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "the innermost loop: operands and their strides")]
pub(crate) unsafe fn tile<S: Simd, const M: usize, const Z: usize, const ADD: bool>(
    (a, row, step): (*const f32, usize, usize),
    (b, b_row): (*const f32, usize),
    (c, c_row): (*mut f32, usize),
    k: usize,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut sum = [[S::zero(); Z]; M];
        if ADD {
            for (i, sum) in sum.iter_mut().enumerate() {
                for (z, sum) in sum.iter_mut().enumerate() {
                    *sum = S::load(c.add(i * c_row + z * S::LANES));
                }
            }
        }
        // Every third row, from which the next two are addressed.
        let (mut bases, mut b) = ([a; 5], b);
        for (i, base) in bases.iter_mut().enumerate().take(M.div_ceil(3)) {
            *base = a.add(3 * i * row);
        }
        macro_rules! step {
            ($number:literal: $($i:literal)*) => {
                let from = b.add($number * b_row);
                let from: [S::V; Z] = std::array::from_fn(|z| S::load(from.add(z * S::LANES)));
                $(
                    if $i < M {
                        let a = S::splat(*bases[$i / 3].add($i % 3 * row + $number * step));
                        for z in 0..Z {
                            sum[$i][z] = S::fma(a, from[z], sum[$i][z]);
                        }
                    }
                )*
            };
        }
        let mut left = k;
        // Two steps at a time where it matters: each instance of a tile takes time to compile.
        if M == 14 {
            while left >= 2 {
                step!(0: 0 1 2 3 4 5 6 7 8 9 10 11 12 13);
                step!(1: 0 1 2 3 4 5 6 7 8 9 10 11 12 13);
                for base in bases.iter_mut().take(M.div_ceil(3)) {
                    *base = moved(*base, 2 * step);
                }
                b = b.add(2 * b_row);
                left -= 2;
            }
        }
        while left > 0 {
            step!(0: 0 1 2 3 4 5 6 7 8 9 10 11 12 13);
            for base in bases.iter_mut().take(M.div_ceil(3)) {
                *base = moved(*base, step);
            }
            b = b.add(b_row);
            left -= 1;
        }
        for (i, sum) in sum.iter().enumerate() {
            for (z, sum) in sum.iter().enumerate() {
                S::store(c.add(i * c_row + z * S::LANES), *sum);
            }
        }
    }
}

/// A column of tiles: any number of `rows` by `Z` vectors.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
pub(crate) unsafe fn rows<S: Simd, const Z: usize, const ADD: bool>(
    (a, row, step): (*const f32, usize, usize),
    b: (*const f32, usize),
    (c, c_row): (*mut f32, usize),
    (count, k): (usize, usize),
) {
    // SAFETY: guaranteed by the caller; tiles cover rows 0..count once each.
    unsafe {
        let mut i = 0;
        macro_rules! tiles {
            ($m:literal) => {
                while count - i >= $m {
                    let (a, c) = (a.add(i * row), c.add(i * c_row));
                    tile::<S, $m, Z, ADD>((a, row, step), b, (c, c_row), k);
                    i += $m;
                }
            };
        }
        if S::ROWS == 14 {
            tiles!(14);
            tiles!(7);
        } else if S::ROWS == 6 {
            tiles!(6);
        }
        tiles!(4);
        tiles!(2);
        tiles!(1);
    }
}

/// c = a b over packed columns: `a` in plain rows, `b` from [`pack_columns`].
///
/// # Safety
/// As [`tile`]; rows of `c` are valid for `n` rounded up to whole panels.
#[inline(always)]
pub(crate) unsafe fn by_panels<S: Simd>(
    (a, a_row): (*const f32, usize),
    b: *const f32,
    (c, c_row): (*mut f32, usize),
    [m, n, k]: [usize; 3],
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let width = panel::<S>();
        for p in 0..n.div_ceil(width) {
            let (b, c) = ((b.add(p * width * k), width), (c.add(p * width), c_row));
            rows::<S, 2, false>((a, a_row, 1), b, c, (m, k));
        }
    }
}

/// Number of values that [`pack_columns`] makes of a matrix of k rows and n columns.
pub(crate) fn packed_columns(lanes: usize, k: usize, n: usize) -> usize {
    n.next_multiple_of(2 * lanes) * k
}

/// A matrix as panels of two vectors of columns, each panel row by row; missing columns are zeros.
/// `at(k, n)` returns an entry.
pub(crate) fn pack_columns(
    lanes: usize,
    [k, n]: [usize; 2],
    out: &mut [f32],
    at: impl Fn(usize, usize) -> f32,
) {
    let width = 2 * lanes;
    for (p, panel) in out.chunks_exact_mut(width * k).enumerate() {
        for (i, row) in panel.chunks_exact_mut(width).enumerate() {
            for (j, x) in row.iter_mut().enumerate() {
                let column = p * width + j;
                *x = if column < n { at(i, column) } else { 0.0 };
            }
        }
    }
}

/// c = a b where lanes are columns: `a` from [`pack_rows`], `b` and `c` of `Z` vectors per row.
/// Rows of `c` are valid for `m` rounded up to whole blocks of `ROWS`.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
pub(crate) unsafe fn by_rows<S: Simd, const Z: usize, const ADD: bool>(
    a: *const f32,
    b: (*const f32, usize),
    (c, c_row): (*mut f32, usize),
    (m, k): (usize, usize),
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        for block in 0..m.div_ceil(S::ROWS) {
            let left = m - block * S::ROWS;
            let (a, c) = (a.add(block * S::ROWS * k), (c.add(block * S::ROWS * c_row), c_row));
            let a = (a, 1, S::ROWS);
            if S::ROWS == 14 {
                // With 64 channels, and with 512, the last 8 remain.
                if left <= 8 {
                    tile::<S, 8, Z, ADD>(a, b, c, k);
                } else {
                    tile::<S, 14, Z, ADD>(a, b, c, k);
                }
            } else if S::ROWS == 6 {
                tile::<S, 6, Z, ADD>(a, b, c, k);
            } else {
                tile::<S, 4, Z, ADD>(a, b, c, k);
            }
        }
    }
}

/// Number of values that [`pack_rows`] makes of a matrix of m rows and k columns; `rows` is `ROWS`
/// of the instruction set.
pub(crate) fn packed_rows(rows: usize, m: usize, k: usize) -> usize {
    m.next_multiple_of(rows) * k
}

/// A matrix as blocks of rows, each block column by column; missing rows are zeros. `at(m, k)`
/// returns an entry.
pub(crate) fn pack_rows(
    rows: usize,
    [m, k]: [usize; 2],
    out: &mut [f32],
    at: impl Fn(usize, usize) -> f32,
) {
    for (block, values) in out.chunks_exact_mut(rows * k).enumerate() {
        for (j, column) in values.chunks_exact_mut(rows).enumerate() {
            for (i, x) in column.iter_mut().enumerate() {
                let row = block * rows + i;
                *x = if row < m { at(row, j) } else { 0.0 };
            }
        }
    }
}
