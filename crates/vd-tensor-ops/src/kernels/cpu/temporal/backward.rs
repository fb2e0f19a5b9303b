//! The gradient of the attention along time: a unit at a time, recomputed from the input.
//!
//! Threads sum the gradients of weights separately, over a fixed assignment of units, and the sums
//! are added in the order of the threads: results do not depend on timing.

mod heads;
mod sums;

use std::ops::Range;

use vd_torch::{Member, team, threads};

use super::forward::LayoutOf;
use super::lanes::{gather, normalize, normalize_back, scatter};
use super::pack::{Packed, Weights};
use super::unit::{Layout, Problem, whole};
use crate::kernels::cpu::{Isa, Scratch, Simd, Work};
use heads::Buffers;
use sums::Sums;

/// Inputs and outputs of the gradient besides those of the attention; all contiguous.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gradient<'a> {
    /// The weights for the backward.
    pub(super) back: &'a Packed,
    /// Gradient of the output. That of the input is written to the problem's output.
    pub(super) grad: *const f32,
    /// The weights themselves.
    pub(super) weights: Weights,
    /// c
    pub(super) gamma: *mut f32,
    /// (3 n d) c
    pub(super) to_qkv: *mut f32,
    /// c (n d)
    pub(super) to_out: *mut f32,
    /// n f f
    pub(super) bias: Option<*mut f32>,
    /// (2f - 1) d each
    pub(super) distances: Option<[*mut f32; 2]>,
}

// SAFETY: threads only read shared data, and write to separate memory.
unsafe impl Sync for Gradient<'_> {}

/// Memory shared by all threads: sums, the matrices of a unit, and gradients of its input.
struct Shared {
    sums: *mut f32,
    unit: Option<(*mut f32, *mut f32)>,
}

// SAFETY: threads write to separate memory, and read after a barrier.
unsafe impl Sync for Shared {}

/// Computes the gradient.
///
/// # Safety
/// The pointers of `problem` and `gradient` are valid for the sizes; nobody else accesses those
/// written to.
pub(super) unsafe fn run(problem: &Problem<'_>, gradient: &Gradient<'_>, isa: Isa) {
    let threads = threads();
    let layout = isa.run(LayoutOf(problem, threads));
    let channels = problem.sizes().channels;
    let parts = Sums::of(problem, gradient);
    let mut sums = Scratch::take(threads * parts.len);
    // As in the attention itself.
    let mut unit = (!layout.units.is_multiple_of(threads)).then(|| {
        let rows = (channels + layout.fill) * layout.row;
        [Unit::len(&layout, channels), threads * rows].map(Scratch::take)
    });
    let unit = unit.as_mut().map(|[unit, dx]| (unit.as_mut_ptr(), dx.as_mut_ptr()));
    let shared = &Shared { sums: sums.as_mut_ptr(), unit };
    team(|member| isa.run(Share { problem, gradient, shared, layout, parts, member }));
}

/// The work of one thread.
struct Share<'a> {
    problem: &'a Problem<'a>,
    gradient: &'a Gradient<'a>,
    shared: &'a Shared,
    layout: Layout,
    parts: Sums,
    member: Member<'a>,
}

/// The matrices of a unit.
#[derive(Clone, Copy)]
struct Unit {
    /// Normalised input and gradient of the output, channels as rows.
    x: *mut f32,
    grad: *mut f32,
    /// The same, channels last.
    x_rows: *mut f32,
    grad_rows: *mut f32,
    /// Factors of the norm, one per column.
    units: *mut f32,
}

impl Unit {
    fn len(l: &Layout, channels: usize) -> usize {
        2 * (channels * l.row + l.columns * l.line(channels)) + l.columns
    }

    /// Uses [`Unit::len`] values.
    unsafe fn new(at: *mut f32, l: &Layout, channels: usize) -> Self {
        let (matrix, rows) = (channels * l.row, l.columns * l.line(channels));
        // SAFETY: guaranteed by the caller.
        unsafe {
            let (x_rows, grad_rows) = (at.add(2 * matrix), at.add(2 * matrix + rows));
            let units = grad_rows.add(rows);
            Unit { x: at, grad: at.add(matrix), x_rows, grad_rows, units }
        }
    }
}

impl Share<'_> {
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, to: Unit, spare: *mut f32, unit: usize, frames: Range<usize>) {
        let (problem, l) = (self.problem, &self.layout);
        let c = problem.sizes().channels;
        for (frame, z) in frames.flat_map(|frame| (0..l.wide).map(move |z| (frame, z))) {
            let (at, valid) = problem.sites_of::<S>(l, unit, (frame, z));
            let column = frame * l.frame + z * S::LANES;
            // SAFETY: guaranteed by the caller.
            unsafe {
                let (x, grad) = (to.x.add(column), to.grad.add(column));
                gather::<S>((problem.x.add(at), valid), (x, l.row), c, spare);
                // Padding positions have no gradient, and so do not contribute to any sum.
                gather::<S>((self.gradient.grad.add(at), valid), (grad, l.row), c, spare);
                let factor = normalize::<S>(x, l.row, c);
                S::store(to.units.add(column), factor);
                for (from, rows) in [(x, to.x_rows), (grad, to.grad_rows)] {
                    let rows = rows.add(column * l.line(c));
                    for k in (0..c).step_by(S::LANES) {
                        S::transpose(from.add(k * l.row), l.row, rows.add(k), l.line(c));
                    }
                }
            }
        }
    }

    /// The gradient of the input, from `parts` of that of the normalised input, `apart` from each
    /// other.
    #[inline(always)]
    unsafe fn finish<S: Simd>(
        &self,
        (from, spare): (Unit, *mut f32),
        (dx, parts, apart): (*mut f32, usize, usize),
        unit: usize,
        frames: Range<usize>,
    ) {
        let (problem, l) = (self.problem, &self.layout);
        let c = problem.sizes().channels;
        for (frame, z) in frames.flat_map(|frame| (0..l.wide).map(move |z| (frame, z))) {
            let (at, valid) = problem.sites_of::<S>(l, unit, (frame, z));
            let column = frame * l.frame + z * S::LANES;
            // SAFETY: guaranteed by the caller.
            unsafe {
                let dx = dx.add(column);
                for k in (0..c * l.row).step_by(l.row) {
                    for part in 1..parts {
                        let sum = S::add(S::load(dx.add(k)), S::load(dx.add(part * apart + k)));
                        S::store(dx.add(k), sum);
                    }
                }
                let unit = S::load(from.units.add(column));
                normalize_back::<S>((from.x.add(column), dx), l.row, c, unit);
                let residual = self.gradient.grad.add(at);
                let to = (residual, problem.y.add(at), valid);
                scatter::<S>((dx, l.row), to, c, spare);
            }
        }
    }
}

impl Work for Share<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (l, member, sizes) = (&self.layout, &self.member, self.problem.sizes());
        let (c, scores) = (sizes.channels, l.frames * l.frames * S::LANES);
        let (head, dx) = (whole::<S>(sizes.three()) * l.row, whole::<S>(c) * l.row);
        let (one, lane) = (whole::<S>(sizes.dim) * l.row, S::LANES * c);
        let tables = (self.parts.len - self.parts.distances) * S::LANES;
        let lengths = [head, head, one, one, scores, scores, dx, lane, Unit::len(l, c), tables];
        let mut taken = lengths.map(Scratch::take);
        let [qkv, d_qkv, out, d_out, weights, scores, dx, spare, unit, distances] =
            taken.each_mut().map(Scratch::as_mut_ptr);
        // SAFETY: guaranteed by the caller; the buffers are those of a unit.
        unsafe {
            let sums = self.shared.sums.add(member.index * self.parts.len);
            sums.write_bytes(0, self.parts.len);
            distances.write_bytes(0, tables);
            let b = Buffers { qkv, d_qkv, out, d_out, weights, scores, dx, sums, distances };
            let rest = l.units % member.count;
            let turns = rest * sizes.heads.div_ceil(member.count);
            let shared = self.shared.unit.filter(|_| turns < sizes.heads);
            let alone = if shared.is_some() { l.units - rest } else { l.units };
            let own = Unit::new(unit, l, c);
            for unit in member.share(alone) {
                self.load::<S>(own, spare, unit, 0..l.frames);
                self.heads::<S>(own, b, unit, 0..sizes.heads);
                self.finish::<S>((own, spare), (dx, 1, 0), unit, 0..l.frames);
            }
            if let Some((unit, dx)) = shared {
                let apart = whole::<S>(c) * l.row;
                let own = Unit::new(unit, l, c);
                let b = Buffers { dx: dx.add(member.index * apart), ..b };
                for unit in alone..l.units {
                    self.load::<S>(own, spare, unit, member.share(l.frames));
                    member.barrier();
                    self.heads::<S>(own, b, unit, member.share(sizes.heads));
                    member.barrier();
                    let parts = (dx, member.count, apart);
                    self.finish::<S>((own, spare), parts, unit, member.share(l.frames));
                }
            }
            for (i, at) in (0..tables).step_by(S::LANES).enumerate() {
                *sums.add(self.parts.distances + i) = S::sum(S::load(distances.add(at)));
            }
            member.barrier();
            self.add_up();
        }
    }
}
