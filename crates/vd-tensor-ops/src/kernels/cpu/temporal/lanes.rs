//! Lane-wise operations. Every lane is a position, so attention along time never crosses lanes.

use crate::kernels::cpu::Simd;

/// Rotates pairs of rows by the angle of their frame, forwards or backwards.
///
/// # Safety
/// As [`Simd`]; `rows` is valid for two rows a pair, `row` apart, of `frames` times `wide` vectors;
/// `turns` for cosine and sine of each frame and pair.
#[inline(always)]
pub(super) unsafe fn turn<S: Simd>(
    rows: (*mut f32, usize),
    (frames, wide): (usize, usize),
    (turns, pairs): (*const f32, usize),
    back: bool,
) {
    for pair in 0..pairs {
        for frame in 0..frames {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let angle = turns.add(2 * (frame * pairs + pair));
                let (cos, sin) = (S::splat(*angle), *angle.add(1));
                let sin = S::splat(if back { -sin } else { sin });
                for z in 0..wide {
                    let first = rows.0.add(2 * pair * rows.1 + (frame * wide + z) * S::LANES);
                    let second = first.add(rows.1);
                    let (u, v) = (S::load(first), S::load(second));
                    S::store(first, S::fnma(v, sin, S::mul(u, cos)));
                    S::store(second, S::fma(u, sin, S::mul(v, cos)));
                }
            }
        }
    }
}

/// Converts scores of a query to weights, after adding its biases; negative infinity masks a key.
///
/// If all keys are masked, the weights are NaN.
///
/// # Safety
/// As [`Simd`]; `scores` is valid for `keys` vectors, `bias` for `keys` values.
#[inline(always)]
pub(super) unsafe fn softmax<S: Simd>(scores: *mut f32, bias: *const f32, keys: usize) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut most = S::splat(f32::NEG_INFINITY);
        for j in 0..keys {
            let at = scores.add(j * S::LANES);
            let score = S::add(S::load(at), S::splat(*bias.add(j)));
            S::store(at, score);
            most = S::max(score, most);
        }
        let mut sum = S::zero();
        for j in 0..keys {
            let at = scores.add(j * S::LANES);
            // The exponential has a floor above 0.
            let seen = *bias.add(j) != f32::NEG_INFINITY;
            let weight = if seen { S::exp(S::sub(S::load(at), most)) } else { S::zero() };
            sum = S::add(sum, weight);
            S::store(at, weight);
        }
        let unit = S::div(S::splat(1.0), sum);
        for j in 0..keys {
            let at = scores.add(j * S::LANES);
            S::store(at, S::mul(S::load(at), unit));
        }
    }
}

/// The sum of `c` vectors.
#[inline(always)]
unsafe fn sum<S: Simd>(c: usize, of: impl Fn(usize) -> S::V) -> S::V {
    // SAFETY: guaranteed by the caller; channels are a multiple of four.
    unsafe {
        // Four at a time, since a single sum would wait for itself.
        let mut sums = [S::zero(); 4];
        for k in (0..c).step_by(4) {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = S::add(*sum, of(k + i));
            }
        }
        S::add(S::add(sums[0], sums[1]), S::add(sums[2], sums[3]))
    }
}

/// Normalises `c` rows of one vector to mean 0 and variance 1; returns the factor.
///
/// # Safety
/// As [`Simd`]; `x` is valid for `c` rows, `row` apart; `c` is a multiple of four.
#[inline(always)]
pub(super) unsafe fn normalize<S: Simd>(x: *mut f32, row: usize, c: usize) -> S::V {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let part = S::splat(1.0 / c as f32);
        let mean = S::mul(sum::<S>(c, |k| S::load(x.add(k * row))), part);
        let squares = sum::<S>(c, |k| {
            let d = S::sub(S::load(x.add(k * row)), mean);
            S::mul(d, d)
        });
        let unit = S::sqrt(S::fma(squares, part, S::splat(1e-5)));
        let unit = S::div(S::splat(1.0), unit);
        for k in 0..c {
            let at = x.add(k * row);
            S::store(at, S::mul(S::sub(S::load(at), mean), unit));
        }
        unit
    }
}

/// Converts the gradient `d` of the normalised `x` to that of the input of the norm, `unit` being
/// the factor.
///
/// # Safety
/// As [`normalize`], for both.
#[inline(always)]
pub(super) unsafe fn normalize_back<S: Simd>(
    (x, d): (*const f32, *mut f32),
    row: usize,
    c: usize,
    unit: S::V,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let part = S::splat(1.0 / c as f32);
        let mean = S::mul(sum::<S>(c, |k| S::load(d.add(k * row))), part);
        let along = sum::<S>(c, |k| S::mul(S::load(d.add(k * row)), S::load(x.add(k * row))));
        let along = S::mul(along, part);
        for k in 0..c {
            let at = d.add(k * row);
            let rest = S::sub(S::load(at), mean);
            let rest = S::fnma(along, S::load(x.add(k * row)), rest);
            S::store(at, S::mul(rest, unit));
        }
    }
}

/// `c` channels of one vector of positions as rows; positions from `valid` on are zeros.
///
/// # Safety
/// As [`Simd`]; `x` is valid for `valid` positions, `to` for `c` rows, `row` apart, `spare` for a
/// vector of positions.
#[inline(always)]
pub(super) unsafe fn gather<S: Simd>(
    (x, valid): (*const f32, usize),
    (to, row): (*mut f32, usize),
    c: usize,
    spare: *mut f32,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut from = x;
        if valid < S::LANES {
            std::ptr::copy_nonoverlapping(x, spare, valid * c);
            spare.add(valid * c).write_bytes(0, (S::LANES - valid) * c);
            from = spare;
        }
        for k in (0..c).step_by(S::LANES) {
            S::transpose(from.add(k), c, to.add(k * row), row);
        }
    }
}

/// The inverse of [`gather`], plus `x`, for the first `valid` positions.
///
/// # Safety
/// As [`gather`]; `y` is valid for `valid` positions.
#[inline(always)]
pub(super) unsafe fn scatter<S: Simd>(
    (from, row): (*const f32, usize),
    (x, y, valid): (*const f32, *mut f32, usize),
    c: usize,
    spare: *mut f32,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        for k in (0..c).step_by(S::LANES) {
            S::transpose(from.add(k * row), row, spare.add(k), c);
        }
        for k in (0..valid * c).step_by(S::LANES) {
            S::store(y.add(k), S::add(S::load(x.add(k)), S::load(spare.add(k))));
        }
    }
}
