//! The piece of an attention that fits a cache: some neighbouring sites of a sample, all frames.

use super::distances::Distances;
use super::lanes::{softmax, turn};
use super::pack::{Form, Packed, Sizes};
use super::products::{Dots, Grid, Product};
use crate::kernels::cpu::{Pairs, Simd, gemm};

/// An attention: where everything lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Problem<'a> {
    pub(super) packed: &'a Packed,
    pub(super) x: *const f32,
    pub(super) y: *mut f32,
    /// Cosine and sine of the angle of each frame and pair that turns, and how many pairs do.
    pub(super) turns: (*const f32, usize),
    /// Of each head, query and key, and values between those of samples.
    pub(super) bias: (*const f32, usize),
    pub(super) distances: Option<Distances>,
    pub(super) samples: usize,
    pub(super) frames: usize,
    pub(super) sites: usize,
}

// SAFETY: threads read what the pointers show and write apart from each other.
unsafe impl Sync for Problem<'_> {}

/// How the matrices of a unit lie: a row for each feature, a column for each frame and site, the
/// vectors of a frame beside each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) frames: usize,
    /// Vectors of sites.
    pub(super) wide: usize,
    /// Values between frames.
    pub(super) frame: usize,
    /// Columns.
    pub(super) columns: usize,
    /// Values between rows.
    pub(super) row: usize,
    /// Rows that a block of a product has at most beyond the last.
    pub(super) fill: usize,
    /// Units of a sample, and of all.
    pub(super) blocks: usize,
    pub(super) units: usize,
}

/// Values of a cache line.
pub(super) const LINE: usize = 16;

/// Frames up to which a unit may take twice as many sites.
const FEW: usize = 16;

/// Bytes of scores at a time, within the first cache beside keys and values.
const SCORES: usize = 8 << 10;

impl Layout {
    pub(super) fn of<S: Simd>(problem: &Problem<'_>, threads: usize) -> Self {
        let Problem { samples, frames, sites, .. } = *problem;
        let vectors = sites.div_ceil(S::LANES);
        // Products take two vectors at a time: a single last frame gets a partner of its own.
        let pairs = frames % 2 == 1 && frames < FEW && vectors % 2 == 0;
        let wide = if pairs && samples * vectors / 2 >= threads { 2 } else { 1 };
        let columns = frames * wide * S::LANES;
        // An odd number of cache lines: rows do not fall on each other in the cache.
        let row = (columns.div_ceil(LINE) | 1) * LINE;
        let (blocks, frame) = (vectors / wide, wide * S::LANES);
        let (fill, units) = (S::ROWS - 1, samples * blocks);
        Layout { frames, wide, frame, columns, row, fill, blocks, units }
    }

    /// Sample and first site of a unit.
    pub(super) fn place(&self, unit: usize) -> (usize, usize) {
        (unit / self.blocks, unit % self.blocks * self.frame)
    }

    /// Values between rows of a matrix with channels last, for the same reason.
    pub(super) fn line(&self, channels: usize) -> usize {
        (channels.div_ceil(LINE) | 1) * LINE
    }

    /// Columns two vectors at a time.
    pub(super) fn panels<S: Simd>(&self) -> usize {
        self.columns.div_ceil(gemm::panel::<S>())
    }

    /// Queries at a time.
    pub(super) fn queries<S: Simd>(&self) -> usize {
        let row = 4 * self.frames * S::LANES;
        (SCORES / row / 4 * 4).max(4).min(self.frames)
    }
}

/// Rows with those that fill up the last block of a product.
pub(super) fn whole<S: Simd>(rows: usize) -> usize {
    rows.next_multiple_of(S::ROWS)
}

impl Problem<'_> {
    pub(super) fn sizes(&self) -> Sizes {
        self.packed.sizes
    }

    /// Where vector `z` of frame `frame` of a unit lies in a video, and how many sites it has.
    #[inline(always)]
    pub(super) fn sites_of<S: Simd>(
        &self,
        layout: &Layout,
        unit: usize,
        (frame, z): (usize, usize),
    ) -> (usize, usize) {
        let (sample, first) = layout.place(unit);
        let site = (first + z * S::LANES).min(self.sites);
        let at = ((sample * self.frames + frame) * self.sites + site) * self.sizes().channels;
        (at, (self.sites - site).min(S::LANES))
    }

    /// A product by the packed weights, of f32 or of pairs as they are.
    ///
    /// # Safety
    /// As [`Simd`]; `b` is of the form of the weights.
    #[inline(always)]
    pub(super) unsafe fn product<S: Simd>(&self, product: Product) {
        let shape = (product.shape.0, self.packed.steps(product.shape.1));
        let product = Product { shape, ..product };
        // SAFETY: the caller's.
        unsafe {
            if self.packed.form == Form::Paired {
                Pairs::<S>::call(product);
            } else {
                S::call(product);
            }
        }
    }

    /// Queries, keys and values of a head, turned, from the normalised input.
    ///
    /// # Safety
    /// As [`Simd`]; `x` is good for `channels` rows, `qkv` for [`whole`] rows of a head.
    #[inline(always)]
    pub(super) unsafe fn project<S: Simd>(
        &self,
        l: &Layout,
        (x, packed): (*const f32, *const f32),
        qkv: *mut f32,
    ) {
        let Sizes { channels, dim, .. } = self.sizes();
        // SAFETY: the caller's.
        unsafe {
            self.product::<S>(Product {
                a: packed,
                b: (x, l.row),
                c: (qkv, l.row),
                shape: (3 * dim, channels),
                columns: l.columns,
                add: false,
            });
            for first in [0, dim] {
                let rows = (qkv.add(first * l.row), l.row);
                turn::<S>(rows, (l.frames, l.wide), self.turns, false);
            }
        }
    }

    /// Weights of some queries of one vector of sites, of all keys.
    ///
    /// # Safety
    /// As [`Problem::project`]; `weights` is good for a vector for each of them and key.
    #[inline(always)]
    pub(super) unsafe fn weigh<S: Simd>(
        &self,
        l: &Layout,
        (head, sample): (usize, usize),
        (q, k): (*const f32, *const f32),
        (first, count): (usize, usize),
        weights: *mut f32,
    ) {
        let f = l.frames;
        // SAFETY: the caller's.
        unsafe {
            S::call(Dots {
                a: Grid { at: q.add(first * l.frame), row: l.frame, step: l.row },
                b: Grid { at: k, row: l.frame, step: l.row },
                c: Grid { at: weights, row: f * S::LANES, step: S::LANES },
                shape: [count, f, self.sizes().dim],
            });
            if let Some(distances) = self.distances {
                self.score_distances::<S>(l, (q, distances.keys), (first, count), weights);
            }
            let bias = self.bias.0.add(sample * self.bias.1 + head * f * f);
            for i in 0..count {
                let bias = bias.add((first + i) * f);
                softmax::<S>(weights.add(i * f * S::LANES), bias, f);
            }
        }
    }

    /// What a head gives for some queries: values under their weights.
    ///
    /// # Safety
    /// As [`Problem::weigh`]; `out` is good for the rows of a head.
    #[inline(always)]
    pub(super) unsafe fn mix<S: Simd>(
        &self,
        l: &Layout,
        (weights, v): (*const f32, *const f32),
        (first, count): (usize, usize),
        out: *mut f32,
    ) {
        // SAFETY: the caller's.
        unsafe {
            S::call(Dots {
                a: Grid { at: weights, row: l.frames * S::LANES, step: S::LANES },
                b: Grid { at: v, row: l.row, step: l.frame },
                c: Grid { at: out.add(first * l.frame), row: l.frame, step: l.row },
                shape: [count, self.sizes().dim, l.frames],
            });
            if let Some(distances) = self.distances {
                self.mix_distances::<S>(l, (weights, distances.values), (first, count), out);
            }
        }
    }
}
