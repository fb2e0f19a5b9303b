//! A set of vector instructions.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod pairs;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use pairs::{Pairs, pair};
#[cfg(feature = "imitate")]
pub(crate) use portable::Lanes;
pub(crate) use portable::Portable;

use super::Work;

/// Vectors of `LANES` f32 and the operations that kernels need.
///
/// # Safety
/// Of all functions: the CPU has the instructions, which holds inside [`Simd::call`]. Pointers are
/// valid for `LANES` values; they need not be aligned.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// A vector.
    type V: Copy;
    /// Values per vector.
    const LANES: usize;
    /// Rows of a tile of matrix products, kept in registers beside two vectors of columns.
    const ROWS: usize;

    /// Runs `work` compiled for this set, as a function of its own.
    unsafe fn call<W: Work>(work: W) -> W::Out;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(at: *const f32) -> Self::V;
    unsafe fn store(at: *mut f32, x: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// The larger of both; `b` if one is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// a b + c
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// c - a b
    unsafe fn fnma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Rounds to whole numbers.
    unsafe fn round(a: Self::V) -> Self::V;
    /// a 2^n for whole n within -126..=127.
    unsafe fn scale(a: Self::V, n: Self::V) -> Self::V;
    /// Sum over the lanes.
    unsafe fn sum(a: Self::V) -> f32;
    /// Largest of the lanes.
    unsafe fn largest(a: Self::V) -> f32;
    /// Transposes `LANES` rows of `LANES` values, `from` apart: row i of `dst` has entry i of each.
    unsafe fn transpose(src: *const f32, from: usize, dst: *mut f32, to: usize);
    /// [`pair`] of each lane.
    unsafe fn pair(low: Self::V, high: Self::V) -> Self::V;
    /// The lower bf16 of each lane, as f32.
    unsafe fn lower(a: Self::V) -> Self::V;
    /// The upper bf16 of each lane, as f32.
    unsafe fn upper(a: Self::V) -> Self::V;

    /// Prefetches an address into the cache; does nothing if the set gains nothing by it. The
    /// address may be invalid.
    #[inline(always)]
    unsafe fn ahead(_at: *const f32) {}

    /// c plus the products of the upper and then of the lower halves: both products are exact, both
    /// sums are rounded to f32.
    ///
    /// Like `VDPBF16PS`, except that this instruction treats subnormal f32 values as zeros; here
    /// they keep their values.
    #[inline(always)]
    unsafe fn pairs(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let c = Self::fma(Self::upper(a), Self::upper(b), c);
            Self::fma(Self::lower(a), Self::lower(b), c)
        }
    }

    #[inline(always)]
    unsafe fn zero() -> Self::V {
        // SAFETY: guaranteed by the caller.
        unsafe { Self::splat(0.0) }
    }

    /// e^x within two units in the last place, for x clamped to -87..88.
    ///
    /// # Reference
    /// Moshier, Cephes `expf`: ln 2 in two parts, a polynomial of degree five on the rest.
    #[inline(always)]
    unsafe fn exp(x: Self::V) -> Self::V {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let x = Self::min(Self::max(x, Self::splat(-87.0)), Self::splat(88.0));
            let n = Self::round(Self::mul(x, Self::splat(std::f32::consts::LOG2_E)));
            let r = Self::fnma(n, Self::splat(0.693_359_4), x);
            let r = Self::fnma(n, Self::splat(-2.121_944_4e-4), r);
            let mut p = Self::splat(1.987_569_1e-4);
            for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.0e-1] {
                p = Self::fma(p, r, Self::splat(c));
            }
            let p = Self::fma(p, Self::mul(r, r), Self::add(r, Self::splat(1.0)));
            Self::scale(p, n)
        }
    }

    /// x / (1 + e^-x)
    #[inline(always)]
    unsafe fn silu(x: Self::V) -> Self::V {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let e = Self::exp(Self::sub(Self::zero(), x));
            Self::div(x, Self::add(e, Self::splat(1.0)))
        }
    }
}
