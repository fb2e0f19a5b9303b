//! Sums over positions: S = softmax over positions(k)^T x, one row of channels for each feature of
//! a key.
//!
//! The softmax processes an image in chunks, with running maxima.

use super::pack::Shape;
use super::product::{Panels, Product};
use super::sites::{GAP, normal_rows};
use crate::kernels::cpu::paired::{pair_along, pair_rows};
use crate::kernels::cpu::{Pairs, Scratch, Simd};

/// Positions whose keys are in the cache at a time: a multiple of the product rows of the wider
/// instruction sets.
pub(super) const CHUNK: usize = 84;
/// Positions below which a part of an image is not worth a thread.
pub(super) const PART: usize = 32;

/// Sums over the positions of an image, or of a part of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sums {
    /// (n d) c
    pub(super) sums: *mut f32,
    /// Maximum key of each feature.
    pub(super) top: *mut f32,
    /// Sum of the exponentials of each feature.
    pub(super) total: *mut f32,
}

impl Sums {
    /// Number of features rounded up to whole panels of every instruction set.
    pub(super) fn width(shape: &Shape) -> usize {
        shape.inner().next_multiple_of(32)
    }

    pub(super) fn len(shape: &Shape) -> usize {
        shape.inner() * shape.c + 2 * Self::width(shape)
    }

    /// # Safety
    /// `at` is valid for [`Sums::len`] values.
    pub(super) unsafe fn new(shape: &Shape, at: *mut f32) -> Self {
        let (size, width) = (shape.inner() * shape.c, Self::width(shape));
        // SAFETY: guaranteed by the caller.
        unsafe { Sums { sums: at, top: at.add(size), total: at.add(size + width) } }
    }
}

/// Sums over the positions `from..to` of the image at `x`; with `PAIRS` both products are those of
/// bf16 pairs.
///
/// # Safety
/// As [`Simd`]; the pointers are valid for the shape, the packed keys are pairs if `PAIRS` is set,
/// and there is at least one position.
#[inline(always)]
pub(super) unsafe fn keys<S: Simd, const PAIRS: bool>(
    shape: &Shape,
    x: *const f32,
    (from, to): (usize, usize),
    (packed, sums): (*const f32, Sums),
) {
    let (c, inner) = (shape.c, shape.inner());
    let (row, width) = (c + GAP, Sums::width(shape));
    let k_row = width + GAP;
    let chunk = CHUNK.min(to - from);
    let (mut normal, mut keys) = (Scratch::take(chunk * row), Scratch::take(chunk * k_row));
    let (normal, keys) = (normal.as_mut_ptr(), keys.as_mut_ptr());
    let mut paired = Scratch::take(if PAIRS { chunk * row } else { 0 });
    let paired = paired.as_mut_ptr();
    for first in (from..to).step_by(chunk) {
        let count = chunk.min(to - first);
        let more = first > from;
        // SAFETY: guaranteed by the caller; the buffers have a row for each position of a chunk.
        unsafe {
            normal_rows::<S>(x.add(first * c), (normal, row), (count, c));
            let (a, to) = ((normal.cast_const(), row, 1), (keys, k_row));
            let product = Panels { a, b: packed, c: to, shape: [count, inner, c], add: false };
            if PAIRS {
                for site in 0..count {
                    pair_along::<S>(normal.add(site * row), paired.add(site * row), c);
                }
                let (a, k) = ((paired.cast_const(), row, 1), c.div_ceil(2 * S::LANES) * S::LANES);
                Pairs::<S>::call(Panels { a, shape: [count, inner, k], ..product });
            } else {
                S::call(product);
            }
            for n in (0..inner).step_by(S::LANES) {
                let factor = exponentials::<S>((keys.add(n), k_row), count, (sums, n), more);
                let features = S::LANES.min(inner - n);
                if more {
                    shrink::<S>(factor, sums.sums.add(n * c), (features, c));
                }
            }
            let a = (keys.cast_const(), 1, k_row);
            let (b, to) = ((normal.cast_const(), row), (sums.sums, c));
            let product = Product { a, b, c: to, shape: [inner, c, count], add: more };
            if PAIRS {
                pair_rows::<S>((keys, keys, k_row), (count, inner));
                pair_rows::<S>((normal, normal, row), (count, c));
                Pairs::<S>::call(Product { shape: [inner, c, count.div_ceil(2)], ..product });
            } else {
                S::call(product);
            }
        }
    }
}

/// Replaces a vector of keys of `count` positions by exponentials relative to the running maximum;
/// returns the factor for the earlier sums.
///
/// # Safety
/// As [`Simd`]; `keys` is valid for a vector of each of `count` rows, at least one, and `sums` for
/// a vector of features from `n` on.
#[inline(always)]
pub(super) unsafe fn exponentials<S: Simd>(
    (keys, row): (*mut f32, usize),
    count: usize,
    (sums, n): (Sums, usize),
    more: bool,
) -> S::V {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut top = S::load(keys);
        for site in 1..count {
            top = S::max(top, S::load(keys.add(site * row)));
        }
        let (mut factor, mut total) = (S::zero(), [S::zero(); 2]);
        if more {
            let before = S::load(sums.top.add(n));
            top = S::max(top, before);
            factor = S::exp(S::sub(before, top));
            total[0] = S::mul(S::load(sums.total.add(n)), factor);
        }
        for site in 0..count {
            let at = keys.add(site * row);
            let e = S::exp(S::sub(S::load(at), top));
            total[site % 2] = S::add(total[site % 2], e);
            S::store(at, e);
        }
        S::store(sums.top.add(n), top);
        S::store(sums.total.add(n), S::add(total[0], total[1]));
        factor
    }
}

/// Multiplies rows of `c` values by a factor per lane, where it is not 1.
#[inline(always)]
unsafe fn shrink<S: Simd>(factor: S::V, rows: *mut f32, (count, c): (usize, usize)) {
    let mut lanes = [0f32; 16];
    // SAFETY: guaranteed by the caller; no set has more lanes.
    unsafe { S::store(lanes.as_mut_ptr(), factor) };
    for (i, factor) in lanes.iter().enumerate().take(count).filter(|(_, factor)| **factor != 1.0) {
        for k in (0..c).step_by(S::LANES) {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let at = rows.add(i * c + k);
                S::store(at, S::mul(S::load(at), S::splat(*factor)));
            }
        }
    }
}

/// The sums of a head's features over all parts, and the totals of their exponentials.
///
/// # Safety
/// As [`Simd`]; `to` has room for `dim` rows of `c` and `dim` more values.
#[inline(always)]
pub(super) unsafe fn merge<S: Simd>(
    shape: &Shape,
    head: usize,
    parts: &[Sums],
    to: *mut f32,
) -> (*const f32, *const f32) {
    let Shape { c, dim, .. } = *shape;
    let first = head * dim;
    if let [part] = parts {
        // SAFETY: guaranteed by the caller.
        return unsafe { (part.sums.add(first * c), part.total.add(first)) };
    }
    // SAFETY: guaranteed by the caller; `to` has room for the head.
    unsafe {
        let total = to.add(dim * c);
        for d in 0..dim {
            let (n, row) = (first + d, to.add(d * c));
            let tops = parts.iter().map(|part| *part.top.add(n));
            let top = tops.fold(f32::NEG_INFINITY, f32::max);
            *total.add(d) = 0.0;
            for (i, part) in parts.iter().enumerate() {
                let factor = (*part.top.add(n) - top).exp();
                *total.add(d) += factor * *part.total.add(n);
                for k in (0..c).step_by(S::LANES) {
                    let before = if i == 0 { S::zero() } else { S::load(row.add(k)) };
                    let more = S::load(part.sums.add(n * c + k));
                    S::store(row.add(k), S::fma(S::splat(factor), more, before));
                }
            }
        }
        (to.cast_const(), total.cast_const())
    }
}
