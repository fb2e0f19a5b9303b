//! Group norm and the operations after it: one pass for the sums of each sample, and one for the
//! rest.

use vd_torch::Member;

use super::Shape;
use super::segments::{Pairs, Piece, Segments, sum};
use crate::kernels::cpu::{Scratch, Simd, Work};

/// As in the group norm layer.
const EPSILON: f64 = 1e-5;

/// Pointers and sizes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forward {
    pub(super) shape: Shape,
    pub(super) x: *const f32,
    /// Rows of c.
    pub(super) gain: *const f32,
    pub(super) shift: *const f32,
    /// Laid out as the output, or null.
    pub(super) residual: *const f32,
    pub(super) y: *mut f32,
    /// For each sample, the mean of each channel's group and 1 / its deviation: 2 c.
    pub(super) statistics: *mut f32,
    /// Initially zeros: 2 c for each slot.
    pub(super) sums: *mut f64,
}

// SAFETY: threads only read shared data, and write to separate memory.
unsafe impl Sync for Forward {}

/// The work of one thread.
pub(super) struct Share<'a> {
    pub(super) all: &'a Forward,
    pub(super) member: Member<'a>,
}

/// x minus a reference value of its channel, and the square of that: without this shift, the
/// squares of a large mean would swamp the variance.
struct Moments {
    x: *const f32,
    /// c
    pivot: *const f32,
}

impl Pairs for Moments {
    #[inline(always)]
    unsafe fn add<S: Simd, const N: usize>(&self, position: usize, c: usize, near: *mut f32) {
        for k in (0..c).step_by(S::LANES) {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let (x, pivot) = (self.x.add(position * c + k), S::load(self.pivot.add(k)));
                let (first, second) = (near.add(k), near.add(c + k));
                let (mut sum, mut squares) = (S::load(first), S::load(second));
                for i in 0..N {
                    let off = S::sub(S::load(x.add(i * c)), pivot);
                    sum = S::add(sum, off);
                    squares = S::fma(off, off, squares);
                }
                S::store(first, sum);
                S::store(second, squares);
            }
        }
    }
}

impl Share<'_> {
    fn samples(&self) -> Segments {
        self.all.shape.segments(self.all.shape.positions, self.member.count)
    }

    /// The first position of a sample, the reference of its channels' sums.
    fn pivot(&self, sample: usize) -> *const f32 {
        let Shape { positions, c, .. } = self.all.shape;
        // SAFETY: the sample has a position.
        unsafe { self.all.x.add(sample * positions * c) }
    }

    /// Mean and 1 / deviation of each channel's group, from all threads' sums of a sample.
    unsafe fn statistics(&self, sample: usize, sums: &mut [f64], to: (*mut f32, *mut f32)) {
        let Shape { positions, c, groups, .. } = self.all.shape;
        let (n, each, pivot) = (positions as f64, c / groups, self.pivot(sample));
        sums.fill(0.0);
        for slot in self.samples().slots_of(sample) {
            for (k, sum) in sums.iter_mut().enumerate() {
                // SAFETY: there are 2 c values for each slot; nobody writes to them any more.
                *sum += unsafe { *self.all.sums.add(slot * 2 * c + k) };
            }
        }
        let (first, squares) = sums.split_at_mut(c);
        for k in 0..c {
            // The channel's mean, and its sum of squared deviations.
            squares[k] -= first[k] * first[k] / n;
            // SAFETY: guaranteed by the caller.
            first[k] = first[k] / n + f64::from(unsafe { *pivot.add(k) });
        }
        for from in (0..c).step_by(each) {
            let group = from..from + each;
            let mean = first[group.clone()].iter().sum::<f64>() / each as f64;
            let between = first[group.clone()].iter().map(|m| (m - mean) * (m - mean) * n);
            let within = squares[group.clone()].iter().sum::<f64>();
            let variance = (between.sum::<f64>() + within) / (n * each as f64);
            let factor = 1.0 / (variance + EPSILON).sqrt();
            for k in group {
                // SAFETY: guaranteed by the caller.
                unsafe {
                    *to.0.add(k) = mean as f32;
                    *to.1.add(k) = factor as f32;
                }
            }
        }
    }

    /// The second pass over a piece of a sample; `scaled` holds c values.
    #[inline(always)]
    unsafe fn rest<S: Simd>(
        &self,
        piece: &Piece,
        (mean, factor): (*const f32, *const f32),
        scaled: *mut f32,
    ) {
        let Shape { c, row, .. } = self.all.shape;
        let mut from = piece.from;
        while from < piece.to {
            let number = from / row;
            let to = piece.to.min((number + 1) * row);
            // SAFETY: guaranteed by the caller; there is a row of c for these positions.
            unsafe {
                let (gain, shift) = (self.all.gain.add(number * c), self.all.shift.add(number * c));
                for k in (0..c).step_by(S::LANES) {
                    let gain = S::mul(S::load(gain.add(k)), S::load(factor.add(k)));
                    S::store(scaled.add(k), gain);
                }
                for position in from..to {
                    self.position::<S>(position, mean, (scaled, shift));
                }
            }
            from = to;
        }
    }

    #[inline(always)]
    unsafe fn position<S: Simd>(
        &self,
        position: usize,
        mean: *const f32,
        (gain, shift): (*const f32, *const f32),
    ) {
        let Shape { c, .. } = self.all.shape;
        for k in (0..c).step_by(S::LANES) {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let at = position * c + k;
                let x = S::sub(S::load(self.all.x.add(at)), S::load(mean.add(k)));
                let z = S::fma(x, S::load(gain.add(k)), S::load(shift.add(k)));
                let mut out = S::silu(z);
                if !self.all.residual.is_null() {
                    out = S::add(out, S::load(self.all.residual.add(at)));
                }
                S::store(self.all.y.add(at), out);
            }
        }
    }
}

impl Work for Share<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Shape { positions, c, .. } = self.all.shape;
        let (mut near, mut sums) = (Scratch::take(3 * c), vec![0f64; 2 * c]);
        let near = near.as_mut_ptr();
        // SAFETY: guaranteed by the caller; the buffers have these sizes, each piece has its own
        // slot, and after the barrier sums are only read.
        unsafe {
            for piece in self.samples().pieces(self.member.index) {
                let moments = Moments { x: self.all.x, pivot: self.pivot(piece.segment) };
                let slot = self.all.sums.add(piece.slot * 2 * c);
                sum::<S, _>(&moments, (piece.from, piece.to), c, (near, slot));
            }
            self.member.barrier();
            let (mean, factor, scaled) = (near, near.add(c), near.add(2 * c));
            for piece in self.samples().pieces(self.member.index) {
                self.statistics(piece.segment, &mut sums, (mean, factor));
                if piece.from == piece.segment * positions {
                    let to = self.all.statistics.add(piece.segment * 2 * c);
                    std::ptr::copy_nonoverlapping(mean, to, 2 * c);
                }
                self.rest::<S>(&piece, (mean, factor), scaled);
            }
        }
    }
}
