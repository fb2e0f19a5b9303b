//! Pairs of bf16 in place of the f32 operands of products.

use std::marker::PhantomData;

use super::{Simd, Work};

/// The bf16 nearest to x, ties to even.
///
/// Subnormal f32 values become zeros and NaNs become quiet, as with the bf16 instructions.
fn bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    if x.is_nan() {
        (bits >> 16) | 0x40
    } else if x.abs() < f32::MIN_POSITIVE {
        bits >> 31 << 15
    } else {
        (bits + 0x7fff + ((bits >> 16) & 1)) >> 16
    }
}

/// Two bf16 in the place of an f32: the one nearest to `low` in the lower half.
pub(crate) fn pair(low: f32, high: f32) -> f32 {
    f32::from_bits(bf16(low) | bf16(high) << 16)
}

/// An instruction set whose [`Simd::fma`] is [`Simd::pairs`]: matrix products with it are products
/// of the pairs along the inner axis.
///
/// Other lane-wise operations are meaningless for pairs.
#[derive(Clone, Copy)]
pub(crate) struct Pairs<S>(PhantomData<S>);

/// Runs with [`Pairs`] of the set.
struct Paired<W>(W);

impl<W: Work> Work for Paired<W> {
    type Out = W::Out;
    const PAIRS: bool = true;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> W::Out {
        // SAFETY: guaranteed by the caller.
        unsafe { self.0.run::<Pairs<S>>() }
    }
}

macro_rules! as_the_set {
    ($($name:ident($($x:ident: $of:ty),*) $(-> $out:ty)?;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name($($x: $of),*) $(-> $out)? {
                // SAFETY: guaranteed by the caller.
                unsafe { S::$name($($x),*) }
            }
        )*
    };
}

impl<S: Simd> Simd for Pairs<S> {
    type V = S::V;
    const LANES: usize = S::LANES;
    const ROWS: usize = S::ROWS;

    #[inline(always)]
    unsafe fn call<W: Work>(work: W) -> W::Out {
        // SAFETY: guaranteed by the caller.
        unsafe { S::call(Paired(work)) }
    }
    #[inline(always)]
    unsafe fn fma(a: S::V, b: S::V, c: S::V) -> S::V {
        // SAFETY: guaranteed by the caller.
        unsafe { S::pairs(a, b, c) }
    }
    as_the_set! {
        splat(x: f32) -> S::V;
        load(at: *const f32) -> S::V;
        store(at: *mut f32, x: S::V);
        add(a: S::V, b: S::V) -> S::V;
        sub(a: S::V, b: S::V) -> S::V;
        mul(a: S::V, b: S::V) -> S::V;
        div(a: S::V, b: S::V) -> S::V;
        max(a: S::V, b: S::V) -> S::V;
        min(a: S::V, b: S::V) -> S::V;
        sqrt(a: S::V) -> S::V;
        fnma(a: S::V, b: S::V, c: S::V) -> S::V;
        round(a: S::V) -> S::V;
        scale(a: S::V, n: S::V) -> S::V;
        sum(a: S::V) -> f32;
        largest(a: S::V) -> f32;
        transpose(src: *const f32, from: usize, dst: *mut f32, to: usize);
        pair(low: S::V, high: S::V) -> S::V;
        lower(a: S::V) -> S::V;
        upper(a: S::V) -> S::V;
        ahead(at: *const f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::Isa;

    /// Pairs of 16 values each, and their products with others.
    struct Both<'a> {
        low: &'a [f32; 16],
        high: &'a [f32; 16],
        with: &'a [f32; 16],
        to: &'a [f32; 16],
    }

    impl Work for Both<'_> {
        type Out = [[f32; 16]; 2];
        const PAIRS: bool = true;

        #[inline(always)]
        unsafe fn run<S: Simd>(self) -> Self::Out {
            let mut out = [[0.0; 16]; 2];
            for i in (0..16).step_by(S::LANES) {
                // SAFETY: guaranteed by the caller; 16 is a multiple of the lanes.
                let load = |x: &[f32; 16]| unsafe { S::load(x.as_ptr().add(i)) };
                // SAFETY: as above.
                unsafe {
                    let pairs = S::pair(load(self.low), load(self.high));
                    S::store(out[0].as_mut_ptr().add(i), pairs);
                    let sums = Pairs::<S>::fma(pairs, load(self.with), load(self.to));
                    S::store(out[1].as_mut_ptr().add(i), sums);
                }
            }
            out
        }
    }

    /// Bit patterns of every kind: at the limits of the formats, halfway between two bf16,
    /// ordinary, and arbitrary ones.
    fn draw(state: &mut u64) -> f32 {
        let mut next = || {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(0x14057b7ef767814f);
            (*state >> 32) as u32
        };
        let (kind, bits) = (next() % 10, next());
        let (sign, rest) = (bits & 0x8000_0000, bits & 0x007f_ffff);
        f32::from_bits(match kind {
            0 => sign | rest,
            1 => sign | 0x7f80_0000,
            2 => sign | 0x7f80_0000 | rest,
            3 => (bits & 0xffff_0000) | 0x8000,
            4 => sign | 0x7f7f_0000 | (bits & 0xffff),
            5 => sign | 0x0080_0000 | (bits & 0xffff),
            6 | 7 => sign | 0x3f00_0000 | rest,
            _ => bits,
        })
    }

    /// Lower and upper half.
    fn halves(x: f32) -> [f32; 2] {
        [x.to_bits() << 16, x.to_bits() & !0xffff].map(f32::from_bits)
    }

    /// The nearest of the two bf16 around x, by distance in f64.
    fn nearest(x: f32) -> f32 {
        let (sign, size) = (x.is_sign_negative(), f64::from(x.abs()));
        let below = f32::from_bits(x.abs().to_bits() & !0xffff);
        // Above the largest bf16 comes the value that would be next with an unlimited exponent.
        let above = f32::from_bits(below.to_bits() + 0x1_0000);
        let next = if above.is_finite() { f64::from(above) } else { 2f64.powi(128) };
        let (down, up) = (size - f64::from(below), next - size);
        let odd = (below.to_bits() >> 16) & 1 == 1;
        let near = match x {
            x if x.is_infinite() => f32::INFINITY,
            x if x.abs() < f32::MIN_POSITIVE => 0.0,
            _ if up < down || (up == down && odd) => above,
            _ => below,
        };
        if sign { -near } else { near }
    }

    /// Whether both are the same number, or both NaN.
    fn same(a: f32, b: f32) -> bool {
        a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
    }

    fn is_rounded(got: f32, x: f32) -> bool {
        // A NaN keeps its upper bits and becomes quiet.
        let quiet = (x.to_bits() | 1 << 22) & !0xffff;
        if x.is_nan() { got.to_bits() == quiet } else { same(got, nearest(x)) }
    }

    /// Compares bit by bit; except that where a value or a product is outside the normal f32 range,
    /// sets without multiply-adds round once more, and bf16 instructions treat it as zero.
    fn is_sum(isa: Isa, got: f32, [pairs, with, to]: [f32; 3]) -> bool {
        let ([a, b], [c, d]) = (halves(pairs), halves(with));
        let want = a.mul_add(c, b.mul_add(d, to));
        let [a, b, c, d, to] = [a, b, c, d, to].map(f64::from);
        let normal = |x: &f64| *x == 0.0 || (2f64.powi(-126)..2f64.powi(127)).contains(&x.abs());
        let all = [a, b, c, d, to, a * c, b * d, b * d + to, f64::from(want)];
        let exact = matches!(isa, Isa::Avx2 | Isa::Avx512) && !cfg!(feature = "imitate");
        let nan = [a, b, c, d, to].iter().any(|x| x.is_nan());
        same(got, want) || !(exact || nan || all.iter().all(normal))
    }

    #[test]
    fn pairs_are_the_nearest_bf16_and_their_products_add_up_in_order() {
        let start = std::time::UNIX_EPOCH.elapsed().map_or(1, |t| t.as_nanos() as u64);
        let mut state = start;
        for _ in 0..2000 {
            let [low, high, with, to] = [0; 4].map(|_| [0; 16].map(|_| draw(&mut state)));
            for isa in Isa::tested() {
                let both = Both { low: &low, high: &high, with: &with, to: &to };
                let [pairs, sums] = isa.run(both);
                for i in 0..16 {
                    let [l, h] = halves(pairs[i]);
                    assert!(is_rounded(l, low[i]), "{isa}, {start}: {:e} became {l:e}", low[i]);
                    assert!(is_rounded(h, high[i]), "{isa}, {start}: {:e} became {h:e}", high[i]);
                    assert_eq!(pairs[i].to_bits(), pair(low[i], high[i]).to_bits());
                    let of = [pairs[i], with[i], to[i]];
                    assert!(is_sum(isa, sums[i], of), "{isa}, {start}: {of:?} gave {:e}", sums[i]);
                }
            }
        }
    }
}
