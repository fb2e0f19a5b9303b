//! The gradient of the weights: for each tap the matrix product of its inputs and the gradients,
//! over all positions.

use vd_torch::{Member, team};

use super::bands::{Band, Batch, Layout};
use super::phase::Window;
use crate::kernels::cpu::winograd::Source;
use crate::kernels::cpu::{Isa, Scratch, Simd, Work};

/// Pointers and sizes.
#[derive(Debug, Clone, Copy)]
pub(super) struct WeightGrad {
    /// The inputs: the second's channels follow the first's, and may be zero in number.
    pub(super) sources: [Source; 2],
    pub(super) grad: Source,
    pub(super) window: Window,
    pub(super) images: usize,
    /// Height and width of the inputs, and of the output.
    pub(super) from: [usize; 2],
    pub(super) to: [usize; 2],
    /// o i k k
    pub(super) out: *mut f32,
}

// SAFETY: threads only read shared data, and write to separate memory.
unsafe impl Sync for WeightGrad {}

/// Shared by all threads.
struct Plan {
    layout: Layout,
    batches: Vec<Batch>,
    /// Blocks of channels of pixels, and panels of outputs.
    blocks: usize,
    panels: usize,
    /// Channels of a block by pixels; gradients of a panel by positions; for each panel, block and
    /// tap a tile of sums.
    pixels: *mut f32,
    grads: *mut f32,
    sums: *mut f32,
}

// SAFETY: as for `WeightGrad`.
unsafe impl Sync for Plan {}

/// Positions per batch: about as many as fit the L1 cache for a panel and a block, in batches of
/// equal size.
fn most(positions: usize, isa: Isa) -> usize {
    positions.div_ceil(positions.div_ceil(3072 / isa.lanes()).max(1))
}

impl WeightGrad {
    /// # Safety
    /// Pointers are valid for the shapes; there is at least one position.
    pub(super) unsafe fn run(&self, isa: Isa) {
        let inputs = self.sources[0].channels + self.sources[1].channels;
        let (rows, width) = (isa.rows(), 2 * isa.lanes());
        let layout = Layout::new(self.window, inputs, self.to[1]);
        let most = most(self.images * self.to[0] * self.to[1], isa);
        let batches = layout.batches(self.images, self.to[0], most);
        let blocks = layout.channels().div_ceil(rows);
        let panels = self.grad.channels.div_ceil(width);
        let largest = |of: fn(&Batch) -> usize| batches.iter().map(of).max().unwrap_or(0);
        let planes = blocks * layout.planes();
        let mut pixels = Scratch::take(planes * largest(|batch| batch.pixels) * rows);
        let mut grads = Scratch::take(panels * largest(|batch| batch.positions) * width);
        // A single batch needs no persistent sums.
        let units = if batches.len() > 1 { panels * blocks } else { 0 };
        let mut sums = Scratch::take(units * layout.taps() * rows * width);
        let plan = &Plan {
            layout,
            batches,
            blocks,
            panels,
            pixels: pixels.as_mut_ptr(),
            grads: grads.as_mut_ptr(),
            sums: sums.as_mut_ptr(),
        };
        team(|member| isa.run(Share { all: self, plan, member }));
    }
}

/// The work of one thread.
struct Share<'a> {
    all: &'a WeightGrad,
    plan: &'a Plan,
    member: Member<'a>,
}

impl Share<'_> {
    /// Copies row `row` of a band's inputs, with padding and both inputs; false if all is padding.
    #[inline(always)]
    unsafe fn stage(&self, band: &Band, row: usize, to: *mut f32) -> bool {
        let (all, window) = (self.all, self.plan.layout.window);
        let y = (band.y * window.stride + row).wrapping_sub(window.padding);
        if y >= all.from[0] {
            return false;
        }
        let seen = Layout::seen(window, self.plan.layout.columns);
        let mut first = 0;
        for source in all.sources.iter().filter(|source| source.channels > 0) {
            let (c, inputs) = (source.channels, self.plan.layout.inputs);
            // SAFETY: guaranteed by the caller; only positions inside the image are read.
            unsafe {
                let from = source.at.add((band.image * all.from[0] + y) * all.from[1] * c);
                for column in 0..seen {
                    let to = to.add(column * inputs + first);
                    let x = column.wrapping_sub(window.padding);
                    if x < all.from[1] {
                        from.add(x * c).copy_to_nonoverlapping(to, c);
                    } else {
                        to.write_bytes(0, c);
                    }
                }
            }
            first += c;
        }
        true
    }

    /// Writes a staged row as pixels of all blocks.
    #[inline(always)]
    unsafe fn spread<S: Simd>(&self, batch: &Batch, start: usize, staged: Option<*const f32>) {
        let (layout, planes) = (&self.plan.layout, self.plan.layout.planes());
        let step = layout.spacing() * layout.inputs;
        for part in 0..self.plan.blocks * planes {
            // SAFETY: guaranteed by the caller; what a last block lacks is read from the values
            // after it.
            unsafe {
                let to = self.plan.pixels.add((part * batch.pixels + start) * S::ROWS);
                let Some(staged) = staged else {
                    to.write_bytes(0, layout.pitch * S::ROWS);
                    continue;
                };
                let from = staged.add(part / planes * S::ROWS + part % planes * layout.inputs);
                for column in 0..layout.pitch {
                    let to = to.add(column * S::ROWS);
                    from.add(column * step).copy_to_nonoverlapping(to, S::ROWS);
                }
            }
        }
    }

    /// Packs the pixels and gradients of a batch, each thread some of them.
    #[inline(always)]
    unsafe fn pack<S: Simd>(&self, batch: &Batch, staged: *mut f32) {
        let (plan, layout) = (self.plan, &self.plan.layout);
        let rows = |band: &Band| Layout::seen(layout.window, band.rows);
        let share = self.member.share(batch.bands.iter().map(rows).sum());
        let mut number = 0;
        for band in &batch.bands {
            for row in 0..rows(band) {
                if share.contains(&number) {
                    // SAFETY: guaranteed by the caller.
                    unsafe {
                        let inside = self.stage(band, row, staged);
                        let staged = inside.then_some(staged.cast_const());
                        self.spread::<S>(batch, layout.row(band, row), staged);
                    }
                }
                number += 1;
            }
        }
        let (outputs, width) = (self.all.grad.channels, 2 * S::LANES);
        for position in self.member.share(batch.positions) {
            for panel in 0..plan.panels {
                let here = width.min(outputs - panel * width);
                // SAFETY: guaranteed by the caller.
                unsafe {
                    let at = (batch.first + position) * outputs + panel * width;
                    let to = plan.grads.add((panel * batch.positions + position) * width);
                    self.all.grad.at.add(at).copy_to_nonoverlapping(to, here);
                    to.add(here).write_bytes(0, width - here);
                }
            }
        }
    }

    /// The products of a batch for a panel and a block, added to its tiles after the first batch.
    #[inline(always)]
    unsafe fn product<S: Simd, const M: usize, const Z: usize>(
        &self,
        batch: &Batch,
        (panel, block): (usize, usize),
        tiles: *mut f32,
    ) {
        let (plan, layout, width) = (self.plan, &self.plan.layout, 2 * S::LANES);
        // SAFETY: guaranteed by the caller.
        unsafe {
            let pixels = block * layout.planes() * batch.pixels;
            let pixels = plan.pixels.cast_const().add(pixels * M);
            let grads = plan.grads.cast_const().add(panel * batch.positions * width);
            for tap in 0..layout.taps() {
                let tile = tiles.add(tap * M * width);
                let mut sum = [[S::zero(); Z]; M];
                if batch.first > 0 {
                    for (m, sum) in sum.iter_mut().enumerate() {
                        for (z, sum) in sum.iter_mut().enumerate() {
                            *sum = S::load(tile.add(m * width + z * S::LANES));
                        }
                    }
                }
                for band in &batch.bands {
                    for stretch in layout.stretches(*band, tap, batch.pixels) {
                        let mut x = pixels.add(stretch.pixel * M);
                        let mut grad = grads.add(stretch.position * width);
                        for _ in 0..stretch.len {
                            let g: [S::V; Z] =
                                std::array::from_fn(|z| S::load(grad.add(z * S::LANES)));
                            for (m, sum) in sum.iter_mut().enumerate() {
                                let x = S::splat(*x.add(m));
                                for z in 0..Z {
                                    sum[z] = S::fma(x, g[z], sum[z]);
                                }
                            }
                            x = x.wrapping_add(layout.step() * M);
                            grad = grad.wrapping_add(width);
                        }
                    }
                }
                for (m, sum) in sum.iter().enumerate() {
                    for (z, sum) in sum.iter().enumerate() {
                        S::store(tile.add(m * width + z * S::LANES), *sum);
                    }
                }
            }
        }
    }

    /// Writes the sums of a panel and a block as weights.
    #[inline(always)]
    unsafe fn scatter<S: Simd>(&self, (panel, block): (usize, usize), tiles: *const f32) {
        let (layout, width) = (&self.plan.layout, 2 * S::LANES);
        let (kernel, outputs) = (layout.window.kernel, self.all.grad.channels);
        let channels = block * S::ROWS..layout.channels().min((block + 1) * S::ROWS);
        for lane in 0..width.min(outputs - panel * width) {
            for (m, channel) in channels.clone().enumerate() {
                let (across, channel) = (channel / layout.inputs, channel % layout.inputs);
                let to = ((panel * width + lane) * layout.inputs + channel) * kernel * kernel;
                for tap in 0..layout.taps() {
                    let number = if layout.folded { tap * kernel + across } else { tap };
                    // SAFETY: guaranteed by the caller.
                    unsafe {
                        let sum = *tiles.add((tap * S::ROWS + m) * width + lane);
                        *self.all.out.add(to + number) = sum;
                    }
                }
            }
        }
    }

    /// Some of the panels and blocks, over all batches.
    #[inline(always)]
    unsafe fn all<S: Simd, const M: usize>(&self) {
        let (plan, layout) = (self.plan, &self.plan.layout);
        let seen = Layout::seen(layout.window, layout.columns);
        let mut staged = Scratch::take(seen * plan.layout.inputs + M);
        let size = layout.taps() * M * 2 * S::LANES;
        let mut own = Scratch::take(size);
        let (own, last) = (own.as_mut_ptr(), plan.batches.len() - 1);
        // SAFETY: guaranteed by the caller; barriers separate the steps.
        unsafe {
            for (number, batch) in plan.batches.iter().enumerate() {
                self.pack::<S>(batch, staged.as_mut_ptr());
                self.member.barrier();
                for unit in self.member.share(plan.panels * plan.blocks) {
                    let place = (unit / plan.blocks, unit % plan.blocks);
                    let tiles = if last == 0 { own } else { plan.sums.add(unit * size) };
                    if self.all.grad.channels - place.0 * 2 * S::LANES > S::LANES {
                        self.product::<S, M, 2>(batch, place, tiles);
                    } else {
                        self.product::<S, M, 1>(batch, place, tiles);
                    }
                    if number == last {
                        self.scatter::<S>(place, tiles);
                    }
                }
                self.member.barrier();
            }
        }
    }
}

impl Work for Share<'_> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            if S::ROWS == 14 {
                self.all::<S, 14>();
            } else if S::ROWS == 6 {
                self.all::<S, 6>();
            } else {
                self.all::<S, 4>();
            }
        }
    }
}
