//! Transforms between tiles and Winograd's space.

use super::scheme::{Four, Scheme};
use crate::kernels::cpu::Simd;

/// An image in memory: rows of positions of channels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Image {
    pub(super) at: *const f32,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) c: usize,
}

/// Transforms the tile whose outputs start at (y, x), with zeros around the image, to N x N points
/// `point` values apart.
///
/// # Safety
/// As [`Simd`]; channels are a multiple of the lanes; `to` is valid for c values at each point.
#[inline(always)]
pub(super) unsafe fn input<S: Simd, T: Scheme<N, M>, const N: usize, const M: usize>(
    image: Image,
    (y, x): (usize, usize),
    to: *mut f32,
    point: usize,
) {
    // Whether a row or column of the tile lies in the image; the first is one before (y, x).
    let inside = |start: usize, i: usize, size: usize| start + i >= 1 && start + i <= size;
    // SAFETY: guaranteed by the caller; only positions inside the image are read.
    unsafe {
        for c in (0..image.c).step_by(S::LANES) {
            let mut half = [[S::zero(); N]; N];
            for (j, half) in half.iter_mut().enumerate() {
                let mut column = [S::zero(); N];
                if inside(x, j, image.w) {
                    for (i, value) in column.iter_mut().enumerate() {
                        if inside(y, i, image.h) {
                            let position = (y + i - 1) * image.w + x + j - 1;
                            *value = S::load(image.at.add(position * image.c + c));
                        }
                    }
                }
                *half = T::input::<S>(column);
            }
            for i in 0..N {
                let row: [S::V; N] = std::array::from_fn(|j| half[j][i]);
                for (j, value) in T::input::<S>(row).into_iter().enumerate() {
                    S::store(to.add((i * N + j) * point + c), value);
                }
            }
        }
    }
}

/// The M x M outputs of a tile, with the bias, as positions `c` apart.
///
/// # Safety
/// As [`input`].
#[inline(always)]
pub(super) unsafe fn output<S: Simd, T: Scheme<N, M>, const N: usize, const M: usize>(
    (from, point): (*const f32, usize),
    bias: *const f32,
    to: *mut f32,
    c: usize,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        for k in (0..c).step_by(S::LANES) {
            let mut half = [[S::zero(); M]; N];
            for (j, half) in half.iter_mut().enumerate() {
                let column: [S::V; N] =
                    std::array::from_fn(|i| S::load(from.add((i * N + j) * point + k)));
                *half = T::output::<S>(column);
            }
            let bias = if bias.is_null() { S::zero() } else { S::load(bias.add(k)) };
            for i in 0..M {
                let row: [S::V; N] = std::array::from_fn(|j| half[j][i]);
                for (j, value) in T::output::<S>(row).into_iter().enumerate() {
                    S::store(to.add((i * M + j) * c + k), S::add(value, bias));
                }
            }
        }
    }
}

/// Transforms nine taps, for one vector of outputs, to N x N points `point` values apart.
///
/// # Safety
/// As [`Simd`]; `taps` is valid for nine vectors.
#[inline(always)]
pub(super) unsafe fn weight<S: Simd, T: Scheme<N, M>, const N: usize, const M: usize>(
    taps: *const f32,
    to: *mut f32,
    point: usize,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        // No closures: if not inlined, their bodies are compiled without the set's instructions,
        // and are many times slower.
        let mut columns = [[S::zero(); N]; 3];
        for j in 0..3 {
            let mut column = [S::zero(); 3];
            for i in 0..3 {
                column[i] = S::load(taps.add((3 * i + j) * S::LANES));
            }
            columns[j] = T::weight::<S>(column);
        }
        for i in 0..N {
            let row = T::weight::<S>([columns[0][i], columns[1][i], columns[2][i]]);
            for (j, value) in row.into_iter().enumerate() {
                S::store(to.add((i * N + j) * point), value);
            }
        }
    }
}

/// Transforms the 4 x 4 gradients of a tile's outputs, zeros beyond the edge, to 6 x 6 points.
///
/// # Safety
/// As [`input`].
#[inline(always)]
pub(super) unsafe fn spread<S: Simd>(
    image: Image,
    (y, x): (usize, usize),
    to: *mut f32,
    point: usize,
) {
    // SAFETY: guaranteed by the caller; only positions inside the image are read.
    unsafe {
        for c in (0..image.c).step_by(S::LANES) {
            let mut half = [[S::zero(); 6]; 4];
            for (j, half) in half.iter_mut().enumerate().take(image.w - x) {
                let mut column = [S::zero(); 4];
                for (i, value) in column.iter_mut().enumerate().take(image.h - y) {
                    let position = (y + i) * image.w + x + j;
                    *value = S::load(image.at.add(position * image.c + c));
                }
                *half = Four::spread::<S>(column);
            }
            for i in 0..6 {
                let row: [S::V; 4] = std::array::from_fn(|j| half[j][i]);
                for (j, value) in Four::spread::<S>(row).into_iter().enumerate() {
                    S::store(to.add((i * 6 + j) * point + c), value);
                }
            }
        }
    }
}

/// The gradients of nine taps, for one vector of outputs, from those of the 6 x 6 points, `point`
/// values apart.
///
/// # Safety
/// As [`weight`].
#[inline(always)]
pub(super) unsafe fn taps<S: Simd>((from, point): (*const f32, usize), taps: *mut f32) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        // Loops instead of closures, as in `weight`.
        let mut columns = [[S::zero(); 3]; 6];
        for j in 0..6 {
            let mut column = [S::zero(); 6];
            for i in 0..6 {
                column[i] = S::load(from.add((i * 6 + j) * point));
            }
            columns[j] = Four::taps::<S>(column);
        }
        for i in 0..3 {
            let mut row = [S::zero(); 6];
            for j in 0..6 {
                row[j] = columns[j][i];
            }
            let row = Four::taps::<S>(row);
            for (j, value) in row.into_iter().enumerate() {
                S::store(taps.add((3 * i + j) * S::LANES), value);
            }
        }
    }
}
