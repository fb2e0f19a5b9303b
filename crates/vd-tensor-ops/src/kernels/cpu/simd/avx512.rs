//! AVX-512: 32 registers of 16 values, with and without the instructions for bf16 pairs.

#![allow(clippy::undocumented_unsafe_blocks, reason = "the trait says it once for all")]

use std::arch::x86_64::*;
use std::mem::transmute;

use super::{Simd, Work};

/// The instruction set of this module.
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const BF16: bool>;

#[target_feature(enable = "avx512f")]
unsafe fn call<W: Work>(work: W) -> W::Out {
    // SAFETY: the set is what this function is compiled for.
    unsafe { work.run::<Avx512<false>>() }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn call_bf16<W: Work>(work: W) -> W::Out {
    // SAFETY: as above.
    unsafe { work.run::<Avx512<true>>() }
}

impl<const BF16: bool> Simd for Avx512<BF16> {
    type V = __m512;
    const LANES: usize = 16;
    const ROWS: usize = 14;

    #[inline(always)]
    unsafe fn call<W: Work>(work: W) -> W::Out {
        unsafe { if BF16 { call_bf16(work) } else { call(work) } }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(at) }
    }
    #[inline(always)]
    unsafe fn store(at: *mut f32, x: __m512) {
        unsafe { _mm512_storeu_ps(at, x) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sqrt(a: __m512) -> __m512 {
        unsafe { _mm512_sqrt_ps(a) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn fnma(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fnmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn round(a: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    unsafe fn scale(a: __m512, n: __m512) -> __m512 {
        unsafe { _mm512_scalef_ps(a, n) }
    }
    #[inline(always)]
    unsafe fn sum(a: __m512) -> f32 {
        unsafe { _mm512_reduce_add_ps(a) }
    }
    #[inline(always)]
    unsafe fn largest(a: __m512) -> f32 {
        unsafe { _mm512_reduce_max_ps(a) }
    }
    #[inline(always)]
    unsafe fn transpose(src: *const f32, from: usize, dst: *mut f32, to: usize) {
        unsafe {
            let (mut r, mut t) = ([_mm512_setzero_ps(); 16], [_mm512_setzero_ps(); 16]);
            for (i, row) in r.iter_mut().enumerate() {
                *row = _mm512_loadu_ps(src.add(i * from));
            }
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
            }
            for i in (0..16).step_by(4) {
                r[i] = _mm512_shuffle_ps::<0x44>(t[i], t[i + 2]);
                r[i + 1] = _mm512_shuffle_ps::<0xee>(t[i], t[i + 2]);
                r[i + 2] = _mm512_shuffle_ps::<0x44>(t[i + 1], t[i + 3]);
                r[i + 3] = _mm512_shuffle_ps::<0xee>(t[i + 1], t[i + 3]);
            }
            for i in 0..4 {
                t[i] = _mm512_shuffle_f32x4::<0x88>(r[i], r[i + 4]);
                t[i + 4] = _mm512_shuffle_f32x4::<0xdd>(r[i], r[i + 4]);
                t[i + 8] = _mm512_shuffle_f32x4::<0x88>(r[i + 8], r[i + 12]);
                t[i + 12] = _mm512_shuffle_f32x4::<0xdd>(r[i + 8], r[i + 12]);
            }
            for i in 0..4 {
                let store = |k: usize, v| _mm512_storeu_ps(dst.add(k * to), v);
                store(i, _mm512_shuffle_f32x4::<0x88>(t[i], t[i + 8]));
                store(i + 8, _mm512_shuffle_f32x4::<0xdd>(t[i], t[i + 8]));
                store(i + 4, _mm512_shuffle_f32x4::<0x88>(t[i + 4], t[i + 12]));
                store(i + 12, _mm512_shuffle_f32x4::<0xdd>(t[i + 4], t[i + 12]));
            }
        }
    }
    #[inline(always)]
    unsafe fn pair(low: __m512, high: __m512) -> __m512 {
        unsafe {
            // No closures: their bodies may be compiled without these instructions.
            let (low, high) = if BF16 {
                (narrowed(low), narrowed(high))
            } else {
                (_mm512_srli_epi32::<16>(rounded(low)), _mm512_srli_epi32::<16>(rounded(high)))
            };
            _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32::<16>(high)))
        }
    }
    #[inline(always)]
    unsafe fn lower(a: __m512) -> __m512 {
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(a))) }
    }
    #[inline(always)]
    unsafe fn upper(a: __m512) -> __m512 {
        unsafe {
            let mask = _mm512_set1_epi32(!0xffff);
            _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), mask))
        }
    }
    #[inline(always)]
    unsafe fn ahead(at: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    /// A division takes as long as everything else: 14 bits from a table instead, and the rest by a
    /// Newton step.
    #[inline(always)]
    unsafe fn silu(x: __m512) -> __m512 {
        unsafe {
            let e = Self::exp(Self::sub(Self::zero(), x));
            // On a quarter, so that subnormal values are not lost.
            let quarter = Self::splat(0.25);
            let below = Self::fma(e, quarter, quarter);
            let near = _mm512_rcp14_ps(below);
            let near = Self::fma(near, Self::fnma(below, near, Self::splat(1.0)), near);
            Self::mul(Self::mul(x, quarter), near)
        }
    }
    #[inline(always)]
    unsafe fn pairs(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe {
            if BF16 {
                let (a, b) = (transmute::<__m512, __m512bh>(a), transmute::<__m512, __m512bh>(b));
                return _mm512_dpbf16_ps(c, a, b);
            }
            let c = _mm512_fmadd_ps(Self::upper(a), Self::upper(b), c);
            _mm512_fmadd_ps(Self::lower(a), Self::lower(b), c)
        }
    }
}

/// Each lane with the nearest bf16 in its upper half; the lower half is arbitrary.
#[inline(always)]
unsafe fn rounded(x: __m512) -> __m512i {
    unsafe {
        let bits = _mm512_castps_si512(x);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let near = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        let sign = _mm512_set1_epi32(i32::MIN);
        let size = _mm512_andnot_si512(sign, bits);
        // With all exponent bits zero, a value is zero or subnormal.
        let small = _mm512_cmplt_epi32_mask(size, _mm512_set1_epi32(1 << 23));
        let near = _mm512_mask_and_epi32(near, small, bits, sign);
        // A NaN keeps its upper bits and becomes quiet.
        let none = _mm512_cmpgt_epi32_mask(size, _mm512_set1_epi32(0xff << 23));
        _mm512_mask_or_epi32(near, none, bits, _mm512_set1_epi32(1 << 22))
    }
}

/// Each lane as the nearest bf16, in its lower half.
#[inline(always)]
unsafe fn narrowed(x: __m512) -> __m512i {
    unsafe { _mm512_cvtepu16_epi32(transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x))) }
}
