//! The transforms of Winograd's minimal filtering, one axis at a time.

#![allow(clippy::undocumented_unsafe_blocks, reason = "the trait says it once for all")]

use crate::kernels::cpu::Simd;

/// F(M x M, 3 x 3) over tiles of N x N inputs, N = M + 2.
///
/// # Reference
/// Lavin & Gray 2016, arXiv:1509.09308.
///
/// # Safety
/// Of all functions: as [`Simd`].
pub(super) trait Scheme<const N: usize, const M: usize> {
    /// B^T r
    unsafe fn input<S: Simd>(r: [S::V; N]) -> [S::V; N];
    /// A^T r
    unsafe fn output<S: Simd>(r: [S::V; N]) -> [S::V; M];
    /// G g
    unsafe fn weight<S: Simd>(g: [S::V; 3]) -> [S::V; N];
}

/// F(4 x 4, 3 x 3): points 0, 1, -1, 2, -2 and infinity.
pub(super) struct Four;

/// F(2 x 2, 3 x 3): points 0, 1, -1 and infinity.
pub(super) struct Two;

impl Scheme<6, 4> for Four {
    #[inline(always)]
    unsafe fn input<S: Simd>(r: [S::V; 6]) -> [S::V; 6] {
        unsafe {
            let (four, five, two) = (S::splat(4.0), S::splat(-5.0), S::splat(2.0));
            let (a, b) = (S::fnma(four, r[2], r[4]), S::fnma(four, r[1], r[3]));
            let (c, d) = (S::sub(r[4], r[2]), S::mul(two, S::sub(r[3], r[1])));
            [
                S::fma(four, r[0], S::fma(five, r[2], r[4])),
                S::add(a, b),
                S::sub(a, b),
                S::add(c, d),
                S::sub(c, d),
                S::fma(four, r[1], S::fma(five, r[3], r[5])),
            ]
        }
    }

    #[inline(always)]
    unsafe fn output<S: Simd>(r: [S::V; 6]) -> [S::V; 4] {
        unsafe {
            let (p, q) = (S::add(r[1], r[2]), S::sub(r[1], r[2]));
            let (s, t) = (S::add(r[3], r[4]), S::sub(r[3], r[4]));
            [
                S::add(S::add(r[0], p), s),
                S::fma(S::splat(2.0), t, q),
                S::fma(S::splat(4.0), s, p),
                S::add(S::fma(S::splat(8.0), t, q), r[5]),
            ]
        }
    }

    #[inline(always)]
    unsafe fn weight<S: Simd>(g: [S::V; 3]) -> [S::V; 6] {
        unsafe {
            let sixth = S::splat(1.0 / 6.0);
            let even = S::mul(S::add(g[0], g[2]), sixth);
            let odd = S::mul(g[1], sixth);
            let far = S::fma(g[0], S::splat(1.0 / 24.0), S::mul(g[2], sixth));
            let half = S::mul(g[1], S::splat(1.0 / 12.0));
            [
                S::mul(g[0], S::splat(0.25)),
                S::sub(S::zero(), S::add(even, odd)),
                S::sub(odd, even),
                S::add(far, half),
                S::sub(far, half),
                g[2],
            ]
        }
    }
}

/// For the gradient of the weights.
impl Four {
    /// A r
    #[inline(always)]
    pub(super) unsafe fn spread<S: Simd>(r: [S::V; 4]) -> [S::V; 6] {
        unsafe {
            let (even, odd) = (S::add(r[0], r[2]), S::add(r[1], r[3]));
            let far = S::fma(S::splat(4.0), r[2], r[0]);
            let wide = S::fma(S::splat(8.0), r[3], S::mul(S::splat(2.0), r[1]));
            [r[0], S::add(even, odd), S::sub(even, odd), S::add(far, wide), S::sub(far, wide), r[3]]
        }
    }

    /// G^T u
    #[inline(always)]
    pub(super) unsafe fn taps<S: Simd>(u: [S::V; 6]) -> [S::V; 3] {
        unsafe {
            let sixth = S::splat(1.0 / 6.0);
            let (near, near_odd) = (S::add(u[1], u[2]), S::sub(u[2], u[1]));
            let (far, far_odd) = (S::add(u[3], u[4]), S::sub(u[3], u[4]));
            let outer = S::fma(S::splat(0.25), u[0], S::mul(S::splat(1.0 / 24.0), far));
            [
                S::fnma(sixth, near, outer),
                S::fma(sixth, near_odd, S::mul(S::splat(1.0 / 12.0), far_odd)),
                S::fma(sixth, S::sub(far, near), u[5]),
            ]
        }
    }
}

impl Scheme<4, 2> for Two {
    #[inline(always)]
    unsafe fn input<S: Simd>(r: [S::V; 4]) -> [S::V; 4] {
        unsafe { [S::sub(r[0], r[2]), S::add(r[1], r[2]), S::sub(r[2], r[1]), S::sub(r[1], r[3])] }
    }

    #[inline(always)]
    unsafe fn output<S: Simd>(r: [S::V; 4]) -> [S::V; 2] {
        unsafe { [S::add(S::add(r[0], r[1]), r[2]), S::sub(S::sub(r[1], r[2]), r[3])] }
    }

    #[inline(always)]
    unsafe fn weight<S: Simd>(g: [S::V; 3]) -> [S::V; 4] {
        unsafe {
            let half = S::splat(0.5);
            let (even, odd) = (S::mul(S::add(g[0], g[2]), half), S::mul(g[1], half));
            [g[0], S::add(even, odd), S::sub(even, odd), g[2]]
        }
    }
}
