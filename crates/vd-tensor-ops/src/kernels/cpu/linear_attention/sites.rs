//! Preparing the positions of an image for matrix products, and storing results.

use crate::kernels::cpu::{Simd, gemm};

/// Gap between rows, so that they do not conflict in the cache.
pub(in crate::kernels::cpu) const GAP: usize = 16;
/// As in the layer norm layer.
const EPSILON: f32 = 1e-5;
/// Number of values of the widest tile of positions that is transposed.
const TILE: usize = 16 * 16;

/// Normalises `count` positions to mean 0 and variance 1, as rows `row` apart; each row is followed
/// by its factor, 1 / deviation.
///
/// # Safety
/// As [`Simd`]; `x` is valid for count c values, `to` for count rows of more than `c`; `c` is a
/// multiple of the lanes.
#[inline(always)]
pub(in crate::kernels::cpu) unsafe fn normal_rows<S: Simd>(
    x: *const f32,
    (to, row): (*mut f32, usize),
    (count, c): (usize, usize),
) {
    for site in 0..count {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let (x, to) = (x.add(site * c), to.add(site * row));
            let mut sum = S::zero();
            for k in (0..c).step_by(S::LANES) {
                sum = S::add(sum, S::load(x.add(k)));
            }
            let mean = S::splat(S::sum(sum) / c as f32);
            let mut squares = S::zero();
            for k in (0..c).step_by(S::LANES) {
                let x = S::sub(S::load(x.add(k)), mean);
                squares = S::fma(x, x, squares);
            }
            let factor = 1.0 / (S::sum(squares) / c as f32 + EPSILON).sqrt();
            for k in (0..c).step_by(S::LANES) {
                let x = S::sub(S::load(x.add(k)), mean);
                S::store(to.add(k), S::mul(x, S::splat(factor)));
            }
            *to.add(c) = factor;
        }
    }
}

/// Transposes positions, `row` apart, to the columns of c rows of a panel, `to_row` apart: the
/// first `count`, then copies of the last one.
///
/// # Safety
/// As [`Simd`]; `x` is valid for count positions, count from 1 to a panel, `to` for c panels,
/// `rows` for a panel of positions of `row` values; `c` is a multiple of the lanes.
#[inline(always)]
pub(super) unsafe fn columns<S: Simd>(
    (x, row): (*const f32, usize),
    (count, c): (usize, usize),
    (to, to_row): (*mut f32, usize),
    rows: *mut f32,
) {
    let width = gemm::panel::<S>();
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut from = x;
        if count < width {
            for site in 0..width {
                let x = x.add(site.min(count - 1) * row);
                std::ptr::copy_nonoverlapping(x, rows.add(site * row), c);
            }
            from = rows;
        }
        for k in (0..c).step_by(S::LANES) {
            for z in 0..2 {
                let from = from.add(z * S::LANES * row + k);
                S::transpose(from, row, to.add(k * to_row + z * S::LANES), to_row);
            }
        }
    }
}

/// Normalises every column of c rows of a panel to mean 0 and variance 1.
///
/// # Safety
/// As [`Simd`]; `x` is valid for c panels.
#[inline(always)]
pub(super) unsafe fn normal_columns<S: Simd>(x: *mut f32, c: usize) {
    let width = gemm::panel::<S>();
    let each = S::splat;
    for z in 0..2 {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let x = x.add(z * S::LANES);
            // Two chains each, since each addition waits for the one before it.
            let mut sum = [S::zero(); 2];
            for k in 0..c {
                sum[k % 2] = S::add(sum[k % 2], S::load(x.add(k * width)));
            }
            let share = each(1.0 / c as f32);
            let mean = S::mul(S::add(sum[0], sum[1]), share);
            let mut squares = [S::zero(); 2];
            for k in 0..c {
                let x = S::sub(S::load(x.add(k * width)), mean);
                squares[k % 2] = S::fma(x, x, squares[k % 2]);
            }
            let variance = S::fma(S::add(squares[0], squares[1]), share, each(EPSILON));
            let factor = S::div(each(1.0), S::sqrt(variance));
            for k in 0..c {
                let at = x.add(k * width);
                S::store(at, S::mul(S::sub(S::load(at), mean), factor));
            }
        }
    }
}

/// Softmax of each column of `rows` rows of a panel, `width` apart.
///
/// # Safety
/// As [`Simd`]; `x` is valid for as many panels.
#[inline(always)]
pub(super) unsafe fn softmax_columns<S: Simd>((x, width): (*mut f32, usize), rows: usize) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let at = |d: usize, z: usize| x.add(d * width + z * S::LANES);
        let mut top = [S::load(at(0, 0)), S::load(at(0, 1))];
        for d in 1..rows {
            for (z, top) in top.iter_mut().enumerate() {
                *top = S::max(*top, S::load(at(d, z)));
            }
        }
        let mut sum = [S::zero(); 2];
        for d in 0..rows {
            for (z, (sum, top)) in sum.iter_mut().zip(top).enumerate() {
                let e = S::exp(S::sub(S::load(at(d, z)), top));
                *sum = S::add(*sum, e);
                S::store(at(d, z), e);
            }
        }
        let one = S::splat(1.0);
        let share = [S::div(one, sum[0]), S::div(one, sum[1])];
        for d in 0..rows {
            for (z, share) in share.into_iter().enumerate() {
                S::store(at(d, z), S::mul(S::load(at(d, z)), share));
            }
        }
    }
}

/// y = x + bias + the columns of c rows of a panel, the first `count` of them.
///
/// # Safety
/// As [`Simd`]; `x` and `y` are valid for count c values, `from` for c panels, `bias` for c; `c` is
/// a multiple of the lanes.
#[inline(always)]
pub(super) unsafe fn add_columns<S: Simd>(
    from: *const f32,
    bias: *const f32,
    (x, y): (*const f32, *mut f32),
    (count, c): (usize, usize),
) {
    let width = gemm::panel::<S>();
    let mut tile = [0f32; TILE];
    for k in (0..c).step_by(S::LANES) {
        // SAFETY: guaranteed by the caller; a tile is lanes by lanes.
        unsafe {
            let bias = S::load(bias.add(k));
            for z in 0..2 {
                let first = z * S::LANES;
                S::transpose(from.add(k * width + first), width, tile.as_mut_ptr(), S::LANES);
                for site in 0..S::LANES.min(count.saturating_sub(first)) {
                    let at = (first + site) * c + k;
                    let value = S::load(tile.as_ptr().add(site * S::LANES));
                    let sum = S::add(S::add(S::load(x.add(at)), bias), value);
                    S::store(y.add(at), sum);
                }
            }
        }
    }
}

/// Converts the gradient of the softmax of each column of `rows` rows of a panel, `width` apart, to
/// the gradient of the column, in place.
///
/// # Safety
/// As [`Simd`]; the softmax and its gradient are valid for as many panels.
#[inline(always)]
pub(super) unsafe fn softmax_grad<S: Simd>(
    (softmax, grad, width): (*const f32, *mut f32, usize),
    rows: usize,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let at = |d: usize, z: usize| d * width + z * S::LANES;
        let mut mean = [S::zero(); 2];
        for d in 0..rows {
            for (z, mean) in mean.iter_mut().enumerate() {
                let (p, g) = (S::load(softmax.add(at(d, z))), S::load(grad.add(at(d, z))));
                *mean = S::fma(p, g, *mean);
            }
        }
        for d in 0..rows {
            for (z, mean) in mean.into_iter().enumerate() {
                let (p, g) = (S::load(softmax.add(at(d, z))), S::load(grad.add(at(d, z))));
                S::store(grad.add(at(d, z)), S::mul(p, S::sub(g, mean)));
            }
        }
    }
}

/// x_grad = grad + the gradient with respect to x, given in `x_grad` the one with respect to rows
/// of [`normal_rows`].
///
/// # Safety
/// As [`Simd`]; `normal` is valid for count rows, the others for count c values; `c` is a multiple
/// of the lanes.
#[inline(always)]
pub(in crate::kernels::cpu) unsafe fn normal_grad<S: Simd>(
    (normal, row): (*const f32, usize),
    grad: *const f32,
    x_grad: *mut f32,
    (count, c): (usize, usize),
) {
    for site in 0..count {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let (normal, grad) = (normal.add(site * row), grad.add(site * c));
            let x_grad = x_grad.add(site * c);
            let (mut mean, mut along) = (S::zero(), S::zero());
            for k in (0..c).step_by(S::LANES) {
                let inner = S::load(x_grad.add(k));
                mean = S::add(mean, inner);
                along = S::fma(inner, S::load(normal.add(k)), along);
            }
            let mean = S::splat(S::sum(mean) / c as f32);
            let along = S::splat(S::sum(along) / c as f32);
            let factor = S::splat(*normal.add(c));
            for k in (0..c).step_by(S::LANES) {
                let inner = S::sub(S::load(x_grad.add(k)), mean);
                let inner = S::fnma(along, S::load(normal.add(k)), inner);
                S::store(x_grad.add(k), S::fma(factor, inner, S::load(grad.add(k))));
            }
        }
    }
}
