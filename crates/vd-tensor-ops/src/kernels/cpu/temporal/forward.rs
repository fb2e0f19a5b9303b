//! y = x + the attention along time of the normalised x, with positions in lanes.
//!
//! A unit is loaded with channels as rows and normalised; each head projects it, rotates queries
//! and keys and attends; the joint output is projected, transposed back to channels last and added
//! to the input. Only the output is written to memory. With very many frames the unit exceeds the
//! L2 cache, but only by what is traversed once for each head.

use std::ops::Range;

use vd_torch::{Member, Tasks, team, threads};

use super::lanes::{gather, normalize, scatter};
use super::pack::{Form, Sizes};
use super::products::Product;
use super::unit::{Layout, Problem, whole};
use crate::kernels::cpu::paired::pair_rows;
use crate::kernels::cpu::{Isa, Scratch, Simd, Work, gemm};

/// Computes the attention.
///
/// # Safety
/// The pointers of `problem` are valid for its sizes; nobody else accesses `y`.
pub(super) unsafe fn run(problem: &Problem<'_>, isa: Isa) {
    let layout = isa.run(LayoutOf(problem, threads()));
    // If the units do not divide evenly, threads share the remaining ones: each takes some of the
    // heads.
    let mut shared = (!layout.units.is_multiple_of(threads())).then(|| {
        let Sizes { channels, .. } = problem.sizes();
        let sizes = [channels, problem.sizes().inner()];
        sizes.map(|rows| Scratch::take(rows * layout.row))
    });
    let shared = shared.as_mut().map(|[x, out]| Shared(x.as_mut_ptr(), out.as_mut_ptr()));
    let units = &Tasks::new(layout.units, 1);
    team(|member| isa.run(Share { problem, shared: shared.as_ref(), layout, member, units }));
}

/// The layout for the instruction set that runs it.
pub(super) struct LayoutOf<'a>(pub(super) &'a Problem<'a>, pub(super) usize);

impl Work for LayoutOf<'_> {
    type Out = Layout;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Layout {
        Layout::of::<S>(self.0, self.1)
    }
}

/// The normalised input and the heads' outputs, of a unit that all threads work on.
struct Shared(*mut f32, *mut f32);

// SAFETY: threads write to separate memory, and read after a barrier.
unsafe impl Sync for Shared {}

/// The work of one thread.
struct Share<'a> {
    problem: &'a Problem<'a>,
    shared: Option<&'a Shared>,
    layout: Layout,
    member: Member<'a>,
    /// Units that no thread has taken yet.
    units: &'a Tasks,
}

/// A thread's memory for one unit.
#[derive(Clone, Copy)]
struct Buffers {
    x: *mut f32,
    out: *mut f32,
    qkv: *mut f32,
    weights: *mut f32,
    /// Two vectors of columns of the output.
    y: *mut f32,
    /// A vector of positions.
    spare: *mut f32,
}

impl Share<'_> {
    /// Loads frames of a unit, normalised, channels as rows; as pairs if the weights are pairs.
    #[inline(always)]
    unsafe fn load<S: Simd>(&self, to: Buffers, unit: usize, frames: Range<usize>) {
        let (problem, l) = (self.problem, &self.layout);
        let c = problem.sizes().channels;
        for frame in frames {
            for z in 0..l.wide {
                let (at, valid) = problem.sites_of::<S>(l, unit, (frame, z));
                // SAFETY: guaranteed by the caller.
                unsafe {
                    let x = to.x.add(frame * l.frame + z * S::LANES);
                    gather::<S>((problem.x.add(at), valid), (x, l.row), c, to.spare);
                    normalize::<S>(x, l.row, c);
                    if problem.packed.form == Form::Paired {
                        pair_rows::<S>((x, x, l.row), (c, S::LANES));
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn heads<S: Simd>(&self, to: Buffers, unit: usize, heads: Range<usize>) {
        let (problem, l) = (self.problem, &self.layout);
        let (dim, (sample, _)) = (problem.sizes().dim, l.place(unit));
        for head in heads {
            // SAFETY: guaranteed by the caller.
            unsafe {
                problem.project::<S>(l, (to.x, problem.packed.head(head)), to.qkv);
                for z in 0..l.wide {
                    let part = |i: usize| to.qkv.add(i * dim * l.row + z * S::LANES).cast_const();
                    let out = to.out.add(head * dim * l.row + z * S::LANES);
                    for first in (0..l.frames).step_by(l.queries::<S>()) {
                        let some = (first, l.queries::<S>().min(l.frames - first));
                        let (of, qk) = ((head, sample), (part(0), part(1)));
                        problem.weigh::<S>(l, of, qk, some, to.weights);
                        problem.mix::<S>(l, (to.weights, part(2)), some, out);
                    }
                }
            }
        }
    }

    /// The output projection of some panels, and the residual.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, from: Buffers, unit: usize, panels: Range<usize>) {
        let (problem, l) = (self.problem, &self.layout);
        let (Sizes { channels, .. }, width) = (problem.sizes(), gemm::panel::<S>());
        for panel in panels {
            let first = panel * width;
            let columns = width.min(l.columns - first);
            // SAFETY: guaranteed by the caller.
            unsafe {
                let out = from.out.add(first);
                if problem.packed.form == Form::Paired {
                    pair_rows::<S>((out, out, l.row), (problem.sizes().inner(), columns));
                }
                problem.product::<S>(Product {
                    a: problem.packed.out(),
                    b: (out, l.row),
                    c: (from.y, width),
                    shape: (channels, problem.sizes().inner()),
                    columns,
                    add: false,
                });
                for half in 0..columns / S::LANES {
                    let vector = first / S::LANES + half;
                    let place = (vector / l.wide, vector % l.wide);
                    let (at, valid) = problem.sites_of::<S>(l, unit, place);
                    let (x, y) = (problem.x.add(at), problem.y.add(at));
                    let rows = (from.y.add(half * S::LANES).cast_const(), width);
                    scatter::<S>(rows, (x, y, valid), channels, from.spare);
                }
            }
        }
    }
}

impl Work for Share<'_> {
    type Out = ();
    const PAIRS: bool = true;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (l, member) = (&self.layout, &self.member);
        let sizes = self.problem.sizes();
        let (x, out) = (sizes.channels * l.row, sizes.inner() * l.row);
        let (mut x, mut out) = (Scratch::take(x), Scratch::take(out));
        let mut qkv = Scratch::take(whole::<S>(sizes.three()) * l.row);
        let mut weights = Scratch::take(l.queries::<S>() * l.frames * S::LANES);
        let mut y = Scratch::take(whole::<S>(sizes.channels) * gemm::panel::<S>());
        let mut spare = Scratch::take(S::LANES * sizes.channels);
        let own = Buffers {
            x: x.as_mut_ptr(),
            out: out.as_mut_ptr(),
            qkv: qkv.as_mut_ptr(),
            weights: weights.as_mut_ptr(),
            y: y.as_mut_ptr(),
            spare: spare.as_mut_ptr(),
        };
        let rest = l.units % member.count;
        // Sharing heads takes `rest` rounds, and a unit per thread takes one.
        let turns = rest * sizes.heads.div_ceil(member.count);
        let shared = self.shared.filter(|_| turns < sizes.heads);
        let alone = if shared.is_some() { l.units - rest } else { l.units };
        // SAFETY: guaranteed by the caller; the buffers are those of a unit.
        unsafe {
            while let Some(unit) = self.units.take().map(|unit| unit.start).filter(|u| *u < alone) {
                self.load::<S>(own, unit, 0..l.frames);
                self.heads::<S>(own, unit, 0..sizes.heads);
                self.finish::<S>(own, unit, 0..l.panels::<S>());
            }
            let Some(&Shared(x, out)) = shared else { return };
            let own = Buffers { x, out, ..own };
            for unit in alone..l.units {
                self.load::<S>(own, unit, member.share(l.frames));
                member.barrier();
                self.heads::<S>(own, unit, member.share(sizes.heads));
                member.barrier();
                self.finish::<S>(own, unit, member.share(l.panels::<S>()));
            }
        }
    }
}
