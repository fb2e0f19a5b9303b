//! AVX2 with fused multiply-add: 16 registers of 8 values.

#![allow(clippy::undocumented_unsafe_blocks, reason = "the trait says it once for all")]

use std::arch::x86_64::*;

use super::{Simd, Work};

/// The instruction set of this module.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

#[target_feature(enable = "avx2,fma")]
unsafe fn call<W: Work>(work: W) -> W::Out {
    // SAFETY: the set is what this function is compiled for.
    unsafe { work.run::<Avx2>() }
}

impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const ROWS: usize = 6;

    #[inline(always)]
    unsafe fn call<W: Work>(work: W) -> W::Out {
        unsafe { call(work) }
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(at: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(at) }
    }
    #[inline(always)]
    unsafe fn store(at: *mut f32, x: __m256) {
        unsafe { _mm256_storeu_ps(at, x) }
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sqrt(a: __m256) -> __m256 {
        unsafe { _mm256_sqrt_ps(a) }
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn fnma(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fnmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn round(a: __m256) -> __m256 {
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    unsafe fn scale(a: __m256, n: __m256) -> __m256 {
        unsafe {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
        }
    }
    #[inline(always)]
    unsafe fn sum(a: __m256) -> f32 {
        unsafe {
            let half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
        }
    }
    #[inline(always)]
    unsafe fn largest(a: __m256) -> f32 {
        unsafe {
            let half = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let pair = _mm_max_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)))
        }
    }
    #[inline(always)]
    unsafe fn transpose(src: *const f32, from: usize, dst: *mut f32, to: usize) {
        unsafe {
            let row = |i: usize| _mm256_loadu_ps(src.add(i * from));
            let (mut lo, mut hi) = ([_mm256_setzero_ps(); 4], [_mm256_setzero_ps(); 4]);
            for i in 0..4 {
                lo[i] = _mm256_unpacklo_ps(row(2 * i), row(2 * i + 1));
                hi[i] = _mm256_unpackhi_ps(row(2 * i), row(2 * i + 1));
            }
            let mut quads = [_mm256_setzero_ps(); 8];
            for half in 0..2 {
                let (l, h) = (2 * half, 4 * half);
                quads[h] = _mm256_shuffle_ps::<0x44>(lo[l], lo[l + 1]);
                quads[h + 1] = _mm256_shuffle_ps::<0xee>(lo[l], lo[l + 1]);
                quads[h + 2] = _mm256_shuffle_ps::<0x44>(hi[l], hi[l + 1]);
                quads[h + 3] = _mm256_shuffle_ps::<0xee>(hi[l], hi[l + 1]);
            }
            for i in 0..4 {
                let low = _mm256_permute2f128_ps::<0x20>(quads[i], quads[i + 4]);
                let high = _mm256_permute2f128_ps::<0x31>(quads[i], quads[i + 4]);
                _mm256_storeu_ps(dst.add(i * to), low);
                _mm256_storeu_ps(dst.add((i + 4) * to), high);
            }
        }
    }
    #[inline(always)]
    unsafe fn pair(low: __m256, high: __m256) -> __m256 {
        unsafe {
            let low = _mm256_srli_epi32::<16>(_mm256_castps_si256(rounded(low)));
            _mm256_or_ps(Self::upper(rounded(high)), _mm256_castsi256_ps(low))
        }
    }
    #[inline(always)]
    unsafe fn lower(a: __m256) -> __m256 {
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(a))) }
    }
    #[inline(always)]
    unsafe fn upper(a: __m256) -> __m256 {
        unsafe { _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(!0xffff))) }
    }
}

/// Each lane with the nearest bf16 in its upper half; the lower half is arbitrary.
#[inline(always)]
unsafe fn rounded(x: __m256) -> __m256 {
    unsafe {
        let bits = _mm256_castps_si256(x);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
        let near = _mm256_castsi256_ps(_mm256_add_epi32(bits, half));
        let sign = _mm256_set1_ps(-0.0);
        let small = _mm256_set1_ps(f32::MIN_POSITIVE);
        let small = _mm256_cmp_ps::<_CMP_LT_OQ>(_mm256_andnot_ps(sign, x), small);
        let near = _mm256_blendv_ps(near, _mm256_and_ps(x, sign), small);
        // A NaN keeps its upper bits and becomes quiet.
        let quiet = _mm256_or_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(1 << 22)));
        _mm256_blendv_ps(near, quiet, _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x))
    }
}
