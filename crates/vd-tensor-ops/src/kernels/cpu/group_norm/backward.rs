//! The gradient of group norm and the operations after it: one pass for the sums, and one for the
//! rest.

use vd_torch::Member;

use super::Shape;
use super::segments::{Pairs, Piece, Segments, sum};
use crate::kernels::cpu::epilogue_grad::silu_slope;
use crate::kernels::cpu::{Scratch, Simd, Work};

/// Pointers and sizes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backward {
    pub(super) shape: Shape,
    pub(super) x: *const f32,
    pub(super) grad: *const f32,
    /// Rows of c.
    pub(super) gain: *const f32,
    pub(super) shift: *const f32,
    /// As computed by the forward.
    pub(super) statistics: *const f32,
    pub(super) x_grad: *mut f32,
    /// Rows of c.
    pub(super) gain_grad: *mut f32,
    pub(super) shift_grad: *mut f32,
    /// Initially zeros: 2 c for each slot.
    pub(super) sums: *mut f64,
}

// SAFETY: threads only read shared data, and write to separate memory.
unsafe impl Sync for Backward {}

/// The work of one thread.
pub(super) struct Share<'a> {
    pub(super) all: &'a Backward,
    pub(super) member: Member<'a>,
}

/// Pointers to c values each, of a sample and of a row.
#[derive(Debug, Clone, Copy)]
struct Channels {
    mean: *const f32,
    factor: *const f32,
    gain: *const f32,
    shift: *const f32,
}

impl Channels {
    /// The normalised x, and the derivative of SiLU at its argument.
    #[inline(always)]
    unsafe fn slope<S: Simd>(&self, x: *const f32, k: usize) -> (S::V, S::V) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let off = S::sub(S::load(x), S::load(self.mean.add(k)));
            let normal = S::mul(off, S::load(self.factor.add(k)));
            let z = S::fma(normal, S::load(self.gain.add(k)), S::load(self.shift.add(k)));
            (normal, silu_slope::<S>(z))
        }
    }
}

/// The gradients of shift and gain.
struct Slopes<'a> {
    all: &'a Backward,
    channels: Channels,
}

impl Pairs for Slopes<'_> {
    #[inline(always)]
    unsafe fn add<S: Simd, const N: usize>(&self, position: usize, c: usize, near: *mut f32) {
        for k in (0..c).step_by(S::LANES) {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let at = position * c + k;
                let (x, grad) = (self.all.x.add(at), self.all.grad.add(at));
                let (first, second) = (near.add(k), near.add(c + k));
                let (mut shift, mut gain) = (S::load(first), S::load(second));
                for i in 0..N {
                    let (normal, slope) = self.channels.slope::<S>(x.add(i * c), k);
                    let d = S::mul(slope, S::load(grad.add(i * c)));
                    shift = S::add(shift, d);
                    gain = S::fma(d, normal, gain);
                }
                S::store(first, shift);
                S::store(second, gain);
            }
        }
    }
}

impl Share<'_> {
    /// Segments, each within one sample and one row.
    fn segments(&self) -> Segments {
        self.all.shape.segments(self.all.shape.common(), self.member.count)
    }

    fn channels(&self, position: usize) -> Channels {
        let Shape { positions, c, row, .. } = self.all.shape;
        let (sample, row) = (position / positions * 2 * c, position / row * c);
        // SAFETY: there are statistics for the sample, and rows for the position.
        unsafe {
            let mean = self.all.statistics.add(sample);
            let (gain, shift) = (self.all.gain.add(row), self.all.shift.add(row));
            Channels { mean, factor: mean.add(c), gain, shift }
        }
    }

    /// Adds the gradients of shift and gain of a segment, of all threads, times `factor`, to `to`.
    unsafe fn gather(&self, segment: usize, to: &mut [f64], factor: impl Fn(usize) -> f64) {
        let c = self.all.shape.c;
        for slot in self.segments().slots_of(segment) {
            for (k, sum) in to.iter_mut().enumerate() {
                // SAFETY: there are 2 c values for each slot; nobody writes to them any more.
                *sum += unsafe { *self.all.sums.add(slot * 2 * c + k) } * factor(k % c);
            }
        }
    }

    /// The gradients of this thread's rows.
    unsafe fn rows(&self, sums: &mut [f64]) {
        let Shape { c, row, .. } = self.all.shape;
        let segments = row / self.segments().each;
        for number in self.member.share(self.segments().total / row) {
            sums.fill(0.0);
            for segment in number * segments..(number + 1) * segments {
                // SAFETY: guaranteed by the caller.
                unsafe { self.gather(segment, sums, |_| 1.0) };
            }
            for k in 0..c {
                // SAFETY: there is a row for the number.
                unsafe {
                    *self.all.shift_grad.add(number * c + k) = sums[k] as f32;
                    *self.all.gain_grad.add(number * c + k) = sums[c + k] as f32;
                }
            }
        }
    }

    /// Means over each channel's group of a sample: of the gradient of the normalised x, and of
    /// that gradient times the normalised x.
    unsafe fn means(&self, sample: usize, sums: &mut [f64], to: *mut f32) {
        let Shape { positions, c, groups, row, .. } = self.all.shape;
        let (segments, each) = (self.segments(), c / groups);
        let many = positions / segments.each;
        sums.fill(0.0);
        for segment in sample * many..(sample + 1) * many {
            // SAFETY: guaranteed by the caller; there is a row of c for the segment.
            unsafe {
                let gain = self.all.gain.add(segment * segments.each / row * c);
                self.gather(segment, sums, |k| f64::from(*gain.add(k)));
            }
        }
        for (group, values) in sums.chunks_exact(each).enumerate() {
            let mean = values.iter().sum::<f64>() / (positions * each) as f64;
            for k in 0..each {
                // SAFETY: guaranteed by the caller.
                unsafe { *to.add(group * each + k) = mean as f32 };
            }
        }
    }

    /// The gradient of x for a piece of a sample.
    #[inline(always)]
    unsafe fn rest<S: Simd>(&self, piece: &Piece, (mean, along): (*const f32, *const f32)) {
        let Shape { c, .. } = self.all.shape;
        let common = self.segments().each;
        let mut channels = self.channels(piece.from);
        for position in piece.from..piece.to {
            if position % common == 0 {
                channels = self.channels(position);
            }
            for k in (0..c).step_by(S::LANES) {
                // SAFETY: guaranteed by the caller.
                unsafe {
                    let at = position * c + k;
                    let (normal, slope) = channels.slope::<S>(self.all.x.add(at), k);
                    let gain =
                        S::mul(S::load(self.all.grad.add(at)), S::load(channels.gain.add(k)));
                    let d = S::sub(S::mul(slope, gain), S::load(mean.add(k)));
                    let d = S::fnma(normal, S::load(along.add(k)), d);
                    S::store(self.all.x_grad.add(at), S::mul(d, S::load(channels.factor.add(k))));
                }
            }
        }
    }
}

impl Work for Share<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (shape, member) = (&self.all.shape, self.member);
        let c = shape.c;
        let (mut near, mut sums) = (Scratch::take(2 * c), vec![0f64; 2 * c]);
        let near = near.as_mut_ptr();
        // SAFETY: guaranteed by the caller; the buffers have these sizes, each piece has its own
        // slot, and after the barrier sums are only read.
        unsafe {
            for piece in self.segments().pieces(member.index) {
                let slopes = Slopes { all: self.all, channels: self.channels(piece.from) };
                let slot = self.all.sums.add(piece.slot * 2 * c);
                sum::<S, _>(&slopes, (piece.from, piece.to), c, (near, slot));
            }
            member.barrier();
            self.rows(&mut sums);
            for piece in shape.segments(shape.positions, member.count).pieces(member.index) {
                self.means(piece.segment, &mut sums, near);
                self.rest::<S>(&piece, (near, near.add(c)));
            }
        }
    }
}
