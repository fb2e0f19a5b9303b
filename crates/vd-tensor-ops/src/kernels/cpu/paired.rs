//! bf16 operands for products of [`Pairs`](super::Pairs), made from f32.
//!
//! Which entries of the inner axis form a pair is arbitrary, as long as both operands agree:
//! adjacent rows if the axis runs down the matrix, and adjacent vectors if it runs along a row, so
//! that no values move between lanes.

use super::{Isa, Simd, pair};

/// Rows 2p and 2p + 1 of `x` become row p of `to`, which may be `x` itself or rows before it; an
/// odd last row is paired with zeros.
///
/// # Safety
/// As [`Simd`]; rows are `row` apart, those of `x` as many as `rows`, each valid for `columns`
/// rounded up to whole vectors.
#[inline(always)]
pub(crate) unsafe fn pair_rows<S: Simd>(
    (x, to, row): (*const f32, *mut f32, usize),
    (rows, columns): (usize, usize),
) {
    for p in 0..rows.div_ceil(2) {
        for n in (0..columns).step_by(S::LANES) {
            // SAFETY: guaranteed by the caller. When row p is written, both of its halves have been
            // read.
            unsafe {
                let at = x.add(2 * p * row + n);
                let high = if 2 * p + 1 < rows { S::load(at.add(row)) } else { S::zero() };
                S::store(to.add(p * row + n), S::pair(S::load(at), high));
            }
        }
    }
}

/// Vectors 2i and 2i + 1 of a row become vector i of `to`, which may be the row itself; an odd last
/// one is paired with zeros.
///
/// # Safety
/// As [`Simd`]; `x` is valid for `c` values, a multiple of the lanes, `to` for [`along`] of them.
#[inline(always)]
pub(crate) unsafe fn pair_along<S: Simd>(x: *const f32, to: *mut f32, c: usize) {
    for n in (0..c).step_by(2 * S::LANES) {
        // SAFETY: guaranteed by the caller. When vector i is written, both of its halves have been
        // read.
        unsafe {
            let high = if n + S::LANES < c { S::load(x.add(n + S::LANES)) } else { S::zero() };
            S::store(to.add(n / 2), S::pair(S::load(x.add(n)), high));
        }
    }
}

/// Number of pairs that [`pair_along`] makes of `c` values.
pub(crate) fn along(isa: Isa, c: usize) -> usize {
    c.div_ceil(2 * isa.lanes()) * isa.lanes()
}

/// Pair `p` of [`pair_along`], from the entries that `at` returns.
pub(crate) fn of_along(isa: Isa, c: usize, p: usize, at: impl Fn(usize) -> f32) -> f32 {
    let low = p / isa.lanes() * isa.lanes() + p;
    of([low, low + isa.lanes()], c, at)
}

/// Pair `p` of [`pair_rows`], from the entries that `at` returns.
pub(crate) fn of_rows(rows: usize, p: usize, at: impl Fn(usize) -> f32) -> f32 {
    of([2 * p, 2 * p + 1], rows, at)
}

fn of(entries: [usize; 2], end: usize, at: impl Fn(usize) -> f32) -> f32 {
    let [low, high] = entries.map(|k| if k < end { at(k) } else { 0.0 });
    pair(low, high)
}
