//! A convolution over its positions.

use std::ops::Range;

use vd_torch::{Member, team};

use super::pack::Packed;
use super::phase::{Phase, Way};
use super::product::{BLOCK, Panel, Run, Step, ZEROS, runs, steps};
use crate::kernels::cpu::epilogue::Epilogue;
use crate::kernels::cpu::winograd::Source;
use crate::kernels::cpu::{Isa, Scratch, Simd, Work};

/// Channels below which the taps of a row form one run, over a copy of the input with its padding.
const FEW: usize = 16;
/// Positions per image up to which the same position of all images is processed together: a tile of
/// them then sees padding as a whole and skips it. Larger images have little padding, and inputs
/// stay in the cache longer in row order.
const SMALL: usize = 256;
/// Positions per thread below which threads divide the weights instead.
const ALONE: usize = 48;

/// A convolution: pointers and sizes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conv<'a> {
    pub(super) packed: &'a Packed,
    /// The inputs: the second's channels follow the first's, and may be zero in number.
    pub(super) sources: [Source; 2],
    pub(super) images: usize,
    /// Height and width of the inputs, and of the output.
    pub(super) from: [usize; 2],
    pub(super) to: [usize; 2],
    /// Whole panels, zeros after the last output.
    pub(super) bias: *const f32,
    pub(super) epilogue: Option<Epilogue>,
    pub(super) out: *mut f32,
}

// SAFETY: threads only read shared data, and write to separate memory.
unsafe impl Sync for Conv<'_> {}

impl Conv<'_> {
    /// # Safety
    /// Pointers are valid for the shapes; `out` overlaps nothing; with an epilogue, channels are a
    /// multiple of the lanes.
    pub(super) unsafe fn run(&self, isa: Isa) {
        let packed = self.packed;
        if packed.inputs < FEW && packed.way == Way::Straight && self.sources[1].channels == 0 {
            // SAFETY: guaranteed by the caller.
            return unsafe { self.padded(isa) };
        }
        let steps = packed.phases.iter().map(|phase| steps(runs(phase, &self.sources)));
        self.with(isa, &steps.collect::<Vec<_>>());
    }

    /// The same over a zero-padded copy, in which the taps of a row are adjacent.
    unsafe fn padded(&self, isa: Isa) {
        let (window, c) = (self.packed.window, self.packed.inputs);
        let size = self.from.map(|n| n + 2 * window.padding);
        let mut copy = Scratch::take(self.images * size[0] * size[1] * c);
        let to = Shared(copy.as_mut_ptr());
        let (to, from, border) = (&to, self, window.padding * c);
        team(|member| {
            for row in member.share(from.images * size[0]) {
                let (image, y) = (row / size[0], row % size[0]);
                let (width, inner) = (size[1] * c, from.from[1] * c);
                // SAFETY: rows of the copy, each written by one thread, and rows of the input.
                unsafe {
                    let to = to.0.add(row * width);
                    to.write_bytes(0, width);
                    if let Some(y) = y.checked_sub(window.padding).filter(|y| *y < from.from[0]) {
                        let at = from.sources[0].at.add((image * from.from[0] + y) * inner);
                        at.copy_to_nonoverlapping(to.add(border), inner);
                    }
                }
            }
        });
        let row = |y: usize| Run {
            down: y as isize,
            across: 0,
            source: 0,
            from: 0,
            len: window.kernel * c,
        };
        let source = Source { at: to.0.cast_const(), channels: c };
        let conv = Conv { sources: [source, self.sources[1]], from: size, ..*self };
        conv.with(isa, &[steps((0..window.kernel).map(row).collect())]);
    }

    fn with(&self, isa: Isa, steps: &[Vec<Step>]) {
        team(|member| isa.run(Share { conv: self, steps, member }));
    }

    /// Stride, in positions of the input and of the output, between consecutive positions of a
    /// phase.
    fn strides(&self) -> (usize, usize) {
        match self.packed.way {
            Way::Straight => (self.packed.window.stride, 1),
            Way::Transposed => (1, self.packed.window.stride),
        }
    }
}

/// Memory that several threads write to.
struct Shared(*mut f32);

// SAFETY: threads write to separate memory.
unsafe impl Sync for Shared {}

/// A position of an output: its image, where its window starts, and its outputs.
#[derive(Debug, Clone, Copy)]
struct Place {
    image: usize,
    y: isize,
    x: isize,
    out: usize,
}

/// The positions of a block, as a thread sees them.
struct Block {
    places: [Place; BLOCK],
    /// Outputs of all positions, and those of incomplete panels.
    outs: [*mut f32; BLOCK],
    rests: [*mut f32; BLOCK],
    seen: Vec<*const f32>,
    count: usize,
}

/// The work of one thread.
struct Share<'a> {
    conv: &'a Conv<'a>,
    /// Steps of each phase.
    steps: &'a [Vec<Step>],
    member: Member<'a>,
}

impl Share<'_> {
    /// Finds the positions from `first` on in a phase's grid: row by row of all images or, for
    /// small images, position by position across all images.
    fn place(&self, block: &mut Block, phase: &Phase, grid: [usize; 2], first: usize) {
        let (conv, (step, scale)) = (self.conv, self.conv.strides());
        let (area, images) = (grid[0] * grid[1], conv.images);
        let across = area <= SMALL;
        let (place, mut image) =
            if across { (first / images, first % images) } else { (first % area, first / area) };
        let (mut y, mut x) = (place / grid[1], place % grid[1]);
        for (place, out) in block.places[..block.count].iter_mut().zip(&mut block.outs) {
            let row = image * conv.to[0] + y * scale + phase.start[0];
            let at = (row * conv.to[1] + x * scale + phase.start[1]) * conv.packed.outputs;
            *place = Place { image, y: (y * step) as isize, x: (x * step) as isize, out: at };
            *out = conv.out.wrapping_add(at);
            if across {
                image += 1;
                if image < images {
                    continue;
                }
                image = 0;
            }
            x += 1;
            if x == grid[1] {
                (x, y) = (0, y + 1);
            }
            if y == grid[0] {
                (y, image) = (0, image + 1);
            }
        }
    }

    /// Finds where the runs start at each position of the block.
    fn look(&self, block: &mut Block, runs: &[Run]) {
        let [h, w] = self.conv.from;
        for (run, seen) in runs.iter().zip(block.seen.chunks_exact_mut(BLOCK)) {
            let source = self.conv.sources[run.source];
            let at = source.at.wrapping_add(run.from);
            for (place, seen) in block.places[..block.count].iter().zip(seen) {
                let (y, x) = (place.y + run.down, place.x + run.across);
                let inside = (y as usize) < h && (x as usize) < w;
                let row = (place.image * h) as isize + y;
                let inner = at.wrapping_offset((row * w as isize + x) * source.channels as isize);
                *seen = if inside { inner } else { ZEROS.as_ptr() };
            }
        }
    }

    /// All matrix products of the block for some panels.
    #[inline(always)]
    unsafe fn products<S: Simd>(&self, block: &mut Block, phase: usize, panels: Range<usize>) {
        let packed = self.conv.packed;
        for (number, step) in self.steps[phase].iter().enumerate() {
            self.look(block, &step.runs);
            for p in panels.clone() {
                let first = p * 2 * S::LANES;
                let left = packed.outputs - first;
                let whole = left >= 2 * S::LANES || left == S::LANES;
                let start = self.conv.bias.wrapping_add(first);
                let panel = Panel {
                    runs: &step.runs,
                    seen: block.seen.as_ptr(),
                    weights: packed.at(phase, p, step.row),
                    bias: if number == 0 { start } else { std::ptr::null() },
                    outs: if whole { block.outs.as_ptr() } else { block.rests.as_ptr() },
                    first: if whole { first } else { 0 },
                };
                // SAFETY: guaranteed by the caller; outputs beyond a panel go to separate memory.
                unsafe {
                    if left > S::LANES {
                        panel.run::<S, 2>(block.count);
                    } else {
                        panel.run::<S, 1>(block.count);
                    }
                }
            }
        }
        let rest = packed.outputs % (2 * S::LANES);
        if !rest.is_multiple_of(S::LANES) && !panels.is_empty() && panels.end == packed.panels() {
            let first = packed.outputs - rest;
            for (from, to) in block.rests[..block.count].iter().zip(&block.outs) {
                // SAFETY: guaranteed by the caller; the rest of the channels of a position.
                unsafe { from.copy_to_nonoverlapping(to.add(first), rest) };
            }
        }
    }

    /// The operations after the convolution, in place.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, image: usize, at: usize) {
        if let Some(epilogue) = &self.conv.epilogue {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let out = self.conv.out.add(at);
                epilogue.apply::<S>(out, out, self.conv.packed.outputs, (image, at));
            }
        }
    }

    /// One phase: each thread takes some positions or, if there are few, some panels of all
    /// positions.
    #[inline(always)]
    unsafe fn phase<S: Simd>(&self, block: &mut Block, number: usize) {
        let (conv, phase) = (self.conv, &self.conv.packed.phases[number]);
        let scale = conv.strides().1;
        let grid: [usize; 2] =
            std::array::from_fn(|k| (conv.to[k] + scale - 1 - phase.start[k]) / scale);
        let (all, panels) = (conv.images * grid[0] * grid[1], conv.packed.panels());
        let by_panels = all < ALONE * self.member.count;
        let (positions, panels) = if by_panels {
            (0..all, self.member.share(panels))
        } else {
            let tiles = self.member.share(all.div_ceil(S::ROWS));
            (tiles.start * S::ROWS..all.min(tiles.end * S::ROWS), 0..panels)
        };
        for first in positions.clone().step_by(BLOCK) {
            block.count = BLOCK.min(positions.end - first);
            self.place(block, phase, grid, first);
            // SAFETY: guaranteed by the caller; threads write to separate memory.
            unsafe {
                self.products::<S>(block, number, panels.clone());
                if !by_panels {
                    for place in &block.places[..block.count] {
                        self.finish::<S>(place.image, place.out);
                    }
                }
            }
        }
        if by_panels && conv.epilogue.is_some() {
            self.member.barrier();
            let area = conv.to[0] * conv.to[1];
            for position in self.member.share(conv.images * area) {
                // SAFETY: guaranteed by the caller; all outputs exist.
                unsafe { self.finish::<S>(position / area, position * conv.packed.outputs) };
            }
        }
    }
}

impl Work for Share<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let mut rests = Scratch::take(BLOCK * 2 * S::LANES);
        let rests = rests.as_mut_ptr();
        let runs = self.steps.iter().flatten().map(|step| step.runs.len()).max();
        let mut block = Block {
            places: [Place { image: 0, y: 0, x: 0, out: 0 }; BLOCK],
            outs: [std::ptr::null_mut(); BLOCK],
            rests: std::array::from_fn(|k| rests.wrapping_add(k * 2 * S::LANES)),
            seen: vec![std::ptr::null(); runs.unwrap_or(0) * BLOCK],
            count: 0,
        };
        for number in 0..self.conv.packed.phases.len() {
            // SAFETY: guaranteed by the caller.
            unsafe { self.phase::<S>(&mut block, number) };
        }
    }
}
