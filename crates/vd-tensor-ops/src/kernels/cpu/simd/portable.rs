//! Only instructions that every CPU of the target has, vectorised by the compiler.

#![allow(clippy::undocumented_unsafe_blocks, reason = "the trait says it once for all")]

use super::{Simd, Work, pair};

/// Vectors of `N` values, and tiles of `ROWS` rows.
#[derive(Clone, Copy)]
pub(crate) struct Lanes<const N: usize, const ROWS: usize>;

/// For CPUs without wider vectors.
pub(crate) type Portable = Lanes<4, 4>;

#[inline(always)]
fn zip<const N: usize>(a: [f32; N], b: [f32; N], f: impl Fn(f32, f32) -> f32) -> [f32; N] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl<const N: usize, const ROWS: usize> Simd for Lanes<N, ROWS> {
    type V = [f32; N];
    const LANES: usize = N;
    const ROWS: usize = ROWS;

    #[inline(always)]
    unsafe fn call<W: Work>(work: W) -> W::Out {
        unsafe { work.run::<Self>() }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; N] {
        [x; N]
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> [f32; N] {
        unsafe { at.cast::<[f32; N]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(at: *mut f32, x: [f32; N]) {
        unsafe { at.cast::<[f32; N]>().write_unaligned(x) }
    }
    #[inline(always)]
    unsafe fn add(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |x, y| x - y)
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |x, y| x * y)
    }
    #[inline(always)]
    unsafe fn div(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |x, y| x / y)
    }
    #[inline(always)]
    unsafe fn max(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    unsafe fn min(a: [f32; N], b: [f32; N]) -> [f32; N] {
        zip(a, b, |x, y| if x < y { x } else { y })
    }
    #[inline(always)]
    unsafe fn sqrt(a: [f32; N]) -> [f32; N] {
        a.map(f32::sqrt)
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn fnma(a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| c[i] - a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn round(a: [f32; N]) -> [f32; N] {
        // Adding and subtracting 1.5 2^23 rounds to whole numbers, without a call for each lane.
        a.map(|x| (x + 12_582_912.0) - 12_582_912.0)
    }
    #[inline(always)]
    unsafe fn scale(a: [f32; N], n: [f32; N]) -> [f32; N] {
        zip(a, n, |x, n| x * f32::from_bits(((n as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn sum(a: [f32; N]) -> f32 {
        a.into_iter().sum()
    }
    #[inline(always)]
    unsafe fn largest(a: [f32; N]) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
    #[inline(always)]
    unsafe fn transpose(src: *const f32, from: usize, dst: *mut f32, to: usize) {
        for i in 0..N {
            for j in 0..N {
                unsafe { *dst.add(j * to + i) = *src.add(i * from + j) };
            }
        }
    }
    #[inline(always)]
    unsafe fn pair(low: [f32; N], high: [f32; N]) -> [f32; N] {
        zip(low, high, pair)
    }
    #[inline(always)]
    unsafe fn lower(a: [f32; N]) -> [f32; N] {
        a.map(|x| f32::from_bits(x.to_bits() << 16))
    }
    #[inline(always)]
    unsafe fn upper(a: [f32; N]) -> [f32; N] {
        a.map(|x| f32::from_bits(x.to_bits() & !0xffff))
    }
}
