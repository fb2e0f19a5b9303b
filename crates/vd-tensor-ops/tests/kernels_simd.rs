//! Each operation of each set of instructions, lane by lane against plain f32, and the products of
//! matrices on top of them.
//!
//! The files of the sets are compiled into this test, which touches no libtorch: `rustc --test`
//! alone makes a static program of it, for an emulator of sets that the CPU lacks (docs/kernels.md).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![allow(clippy::undocumented_unsafe_blocks, reason = "sets are run where `Isa` has found them")]
#![allow(dead_code, reason = "a part of what is there is used here")]

/// The files of the sets, compiled here once more.
#[path = "../src/kernels"]
#[allow(unreachable_pub, unused_imports)]
mod kernels {
    pub(crate) mod cpu {
        pub(crate) mod gemm;
        mod isa;
        mod simd;

        pub(crate) use isa::{Isa, Work};
        pub(crate) use simd::Simd;
    }
}

use std::hash::{BuildHasher, Hasher, RandomState};

use kernels::cpu::{Isa, Simd, Work, gemm};

/// As the crate's, for what the files of the sets need of it.
enum Error {
    Value { what: String, expected: String, got: String },
}

type Result<T> = std::result::Result<T, Error>;

/// Entries that each operation is given: whole vectors of every set.
const LEN: usize = 48;
const ROUNDS: usize = 400;

/// SplitMix64.
#[derive(Clone)]
struct Draw(u64);

impl Draw {
    /// Another one each time; failures print it.
    fn new() -> Self {
        let seed = RandomState::new().build_hasher().finish();
        println!("seed {seed:#x}");
        Draw(seed)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Evenly from -size to size.
    fn even(&mut self, size: f32) -> f32 {
        ((self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0) * size
    }

    /// Any bits at all: infinities, subnormal numbers and what is no number among them.
    fn any(&mut self) -> f32 {
        const ODD: [f32; 6] = [0.0, -0.0, f32::INFINITY, f32::NAN, f32::MAX, 1e-40];
        match self.below(4) {
            0 => ODD[self.below(ODD.len())],
            1 => f32::from_bits(self.bits() as u32),
            _ => self.even(8.0),
        }
    }

    fn many(&mut self, n: usize, mut one: impl FnMut(&mut Draw) -> f32) -> Vec<f32> {
        (0..n).map(|_| one(self)).collect()
    }
}

/// A check of one set.
trait Check: Copy {
    /// `fused`: multiply-adds round once.
    unsafe fn check<S: Simd>(self, draw: Draw, fused: bool);
}

struct Checked<C>(C, Draw, bool);

impl<C: Check> Work for Checked<C> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        unsafe { self.0.check::<S>(self.1, self.2) }
    }
}

/// Runs a check with every set that this CPU has, on the same numbers.
fn each_set<C: Check>(check: C) {
    let draw = Draw::new();
    for isa in Isa::tested() {
        println!("{isa}");
        // Imitations have no such multiply-adds.
        let fused = isa != Isa::Portable && Isa::available().contains(&isa);
        isa.run(Checked(check, draw.clone(), fused));
    }
}

/// What operations are given.
struct Operands([Vec<f32>; 3]);

impl Operands {
    #[inline(always)]
    fn new(draw: &mut Draw, mut one: impl FnMut(&mut Draw) -> f32) -> Self {
        Operands(std::array::from_fn(|_| draw.many(LEN + 1, &mut one)))
    }

    /// `got` of the vectors against `want` of each lane, from entry 1 on: no vector is aligned.
    #[inline(always)]
    unsafe fn hold<S: Simd>(
        &self,
        name: &str,
        got: impl Fn(S::V, S::V, S::V) -> S::V,
        want: impl Fn(f32, f32, f32) -> f32,
        near: impl Fn(f32, f32) -> bool,
    ) {
        let [a, b, c] = &self.0;
        let mut out = vec![0.0; LEN + 1];
        for i in (1..=LEN).step_by(S::LANES) {
            unsafe {
                let [a, b, c] = [a, b, c].map(|x| S::load(x.as_ptr().add(i)));
                S::store(out.as_mut_ptr().add(i), got(a, b, c));
            }
        }
        for i in 1..=LEN {
            let (got, want) = (out[i], want(a[i], b[i], c[i]));
            let of = [a[i], b[i], c[i]];
            assert!(near(got, want), "{name} of {} lanes: {got}, not {want} of {of:?}", S::LANES);
        }
    }
}

/// The same bits, or no number both.
fn same(got: f32, want: f32) -> bool {
    got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan()
}

#[derive(Clone, Copy)]
struct Lanes;

impl Check for Lanes {
    #[inline(always)]
    unsafe fn check<S: Simd>(self, mut draw: Draw, fused: bool) {
        let fma = |a: f32, b: f32, c: f32| if fused { a.mul_add(b, c) } else { a * b + c };
        for _ in 0..ROUNDS {
            let all = Operands::new(&mut draw, Draw::any);
            unsafe {
                all.hold::<S>("load", |a, _, _| a, |a, _, _| a, same);
                all.hold::<S>("splat", |_, _, _| S::splat(1.5), |_, _, _| 1.5, same);
                all.hold::<S>("zero", |_, _, _| S::zero(), |_, _, _| 0.0, same);
                all.hold::<S>("add", |a, b, _| S::add(a, b), |a, b, _| a + b, same);
                all.hold::<S>("sub", |a, b, _| S::sub(a, b), |a, b, _| a - b, same);
                all.hold::<S>("mul", |a, b, _| S::mul(a, b), |a, b, _| a * b, same);
                all.hold::<S>("div", |a, b, _| S::div(a, b), |a, b, _| a / b, same);
                all.hold::<S>("sqrt", |a, _, _| S::sqrt(a), |a, _, _| a.sqrt(), same);
                let larger = |a: f32, b: f32, _| if a > b { a } else { b };
                all.hold::<S>("max", |a, b, _| S::max(a, b), larger, same);
                let smaller = |a: f32, b: f32, _| if a < b { a } else { b };
                all.hold::<S>("min", |a, b, _| S::min(a, b), smaller, same);
                all.hold::<S>("fma", |a, b, c| S::fma(a, b, c), fma, same);
                all.hold::<S>("fnma", |a, b, c| S::fnma(a, b, c), |a, b, c| fma(-a, b, c), same);
            }
            // Quarters below 2^21; -0 and 0 are the same there.
            let all = Operands::new(&mut draw, |draw| (draw.even(4e6) * 2.0).trunc() / 4.0);
            let equal = |got: f32, want: f32| got == want;
            unsafe {
                all.hold::<S>("round", |a, _, _| S::round(a), |a, _, _| a.round_ties_even(), equal);
            }
        }
    }
}

#[test]
fn lanes_are_bit_for_bit_those_of_plain_arithmetic() {
    each_set(Lanes);
}

#[derive(Clone, Copy)]
struct Powers;

impl Check for Powers {
    #[inline(always)]
    unsafe fn check<S: Simd>(self, mut draw: Draw, _: bool) {
        let power = |n: f32| f32::from_bits(((n as i32 + 127) as u32) << 23);
        for _ in 0..ROUNDS {
            let mut all = Operands::new(&mut draw, Draw::any);
            all.0[1] = draw.many(LEN + 1, |draw| draw.below(254) as f32 - 126.0);
            unsafe {
                all.hold::<S>("scale", |a, n, _| S::scale(a, n), |a, n, _| a * power(n), same);
            }
            let all = Operands::new(&mut draw, |draw| draw.even(100.0));
            let exact = |x: f32| f64::from(x.clamp(-87.0, 88.0)).exp();
            let close = |units: f32| {
                move |got: f32, want: f32| (got - want).abs() <= units * f32::EPSILON * want.abs()
            };
            unsafe {
                // Two units in the last place are at most so much of the value.
                all.hold::<S>("exp", |a, _, _| S::exp(a), |a, _, _| exact(a) as f32, close(2.0));
                // Those of e^-x, and one each of the sum and the quotient.
                let silu = |a: f32, _, _| (f64::from(a) / (1.0 + exact(-a))) as f32;
                all.hold::<S>("silu", |a, _, _| S::silu(a), silu, close(4.0));
            }
        }
    }
}

#[test]
fn powers_are_within_the_last_places() {
    each_set(Powers);
}

#[derive(Clone, Copy)]
struct Across;

impl Check for Across {
    #[inline(always)]
    unsafe fn check<S: Simd>(self, mut draw: Draw, _: bool) {
        for _ in 0..ROUNDS {
            let x = draw.many(S::LANES + 1, |draw| draw.even(8.0));
            let x = &x[1..];
            let [sum, largest] = unsafe { [S::sum, S::largest].map(|f| f(S::load(x.as_ptr()))) };
            assert_eq!(largest, x.iter().copied().fold(f32::NEG_INFINITY, f32::max), "{x:?}");
            let exact: f64 = x.iter().map(|x| f64::from(*x)).sum();
            // Each addition rounds by half a unit of what is at most the sum of sizes.
            let sizes: f32 = x.iter().map(|x| x.abs()).sum();
            let bound = S::LANES as f32 * f32::EPSILON * sizes;
            assert!((f64::from(sum) - exact).abs() <= f64::from(bound), "{sum} {exact} {x:?}");

            let (from, to) = (S::LANES + draw.below(9), S::LANES + draw.below(9));
            let src = draw.many(S::LANES * from, Draw::any);
            let mut dst = vec![7.0; (S::LANES - 1) * to + S::LANES];
            unsafe { S::transpose(src.as_ptr(), from, dst.as_mut_ptr(), to) };
            for (i, got) in dst.iter().enumerate() {
                let (row, column) = (i / to, i % to);
                let want = if column < S::LANES { src[column * from + row] } else { 7.0 };
                assert!(same(*got, want), "entry {row}, {column} of {} lanes", S::LANES);
            }
        }
    }
}

#[test]
fn sums_maxima_and_transposes_cross_the_lanes() {
    each_set(Across);
}

#[derive(Clone, Copy)]
struct Products;

impl Check for Products {
    #[inline(always)]
    unsafe fn check<S: Simd>(self, mut draw: Draw, fused: bool) {
        let fma = |a: f32, b: f32, c: f32| if fused { a.mul_add(b, c) } else { a * b + c };
        for _ in 0..ROUNDS / 20 {
            let [m, n, k] = [40, 80, 30].map(|most| 1 + draw.below(most));
            let [a, b] = [m * k, k * n].map(|size| draw.many(size, |draw| draw.even(2.0)));
            let want = |start: f32, i: usize, j: usize| {
                (0..k).fold(start, |sum, t| fma(a[i * k + t], b[t * n + j], sum))
            };
            let mut columns = vec![f32::NAN; gemm::packed_columns(S::LANES, k, n)];
            gemm::pack_columns(S::LANES, [k, n], &mut columns, |t, j| b[t * n + j]);
            let width = n.next_multiple_of(gemm::panel::<S>());
            let mut c = vec![f32::NAN; m * width];
            let out = (c.as_mut_ptr(), width);
            unsafe { gemm::by_panels::<S>((a.as_ptr(), k), columns.as_ptr(), out, [m, n, k]) };
            for (i, got) in c.iter().enumerate().filter(|(i, _)| i % width < n) {
                assert!(same(*got, want(0.0, i / width, i % width)), "panels {m} {n} {k}, {i}");
            }

            let mut rows = vec![f32::NAN; gemm::packed_rows(S::ROWS, m, k)];
            gemm::pack_rows(S::ROWS, [m, k], &mut rows, |i, t| a[i * k + t]);
            let lanes = 2 * S::LANES;
            let b = (0..k * lanes).map(|i| b[i / lanes * n + i % lanes % n]).collect::<Vec<_>>();
            let start = draw.many(m.next_multiple_of(S::ROWS) * lanes, |draw| draw.even(2.0));
            let mut c = start.clone();
            let out = (c.as_mut_ptr(), lanes);
            unsafe { gemm::by_rows::<S, 2, true>(rows.as_ptr(), (b.as_ptr(), lanes), out, (m, k)) };
            for (i, got) in c.iter().enumerate().take(m * lanes) {
                assert!(same(*got, want(start[i], i / lanes, i % lanes % n)), "rows {m} {k}, {i}");
            }
        }
    }
}

#[test]
fn products_are_bit_for_bit_sums_in_the_order_of_the_inner_axis() {
    each_set(Products);
}
