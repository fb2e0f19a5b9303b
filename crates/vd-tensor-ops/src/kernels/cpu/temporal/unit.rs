//! The piece of an attention that fits a cache: some neighbouring positions of a sample, all
//! frames.

use super::distances::Distances;
use super::lanes::{softmax, turn};
use super::pack::{Form, Packed, Sizes};
use super::products::{Dots, Grid, Product};
use crate::kernels::cpu::{Pairs, Simd, gemm};

/// An attention: pointers and sizes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Problem<'a> {
    pub(super) packed: &'a Packed,
    pub(super) x: *const f32,
    pub(super) y: *mut f32,
    /// Cosine and sine of the angle of each frame and rotated pair, and the number of rotated
    /// pairs.
    pub(super) turns: (*const f32, usize),
    /// Biases for each head, query and key, and the stride between samples.
    pub(super) bias: (*const f32, usize),
    pub(super) distances: Option<Distances>,
    pub(super) samples: usize,
    pub(super) frames: usize,
    pub(super) sites: usize,
}

// SAFETY: threads only read shared data, and write to separate memory.
unsafe impl Sync for Problem<'_> {}

/// The layout of a unit's matrices: a row for each feature, a column for each frame and position,
/// with the vectors of a frame adjacent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) frames: usize,
    /// Vectors of positions.
    pub(super) wide: usize,
    /// Stride between frames.
    pub(super) frame: usize,
    /// Number of columns.
    pub(super) columns: usize,
    /// Stride between rows.
    pub(super) row: usize,
    /// Maximum number of padding rows in the last block of a product.
    pub(super) fill: usize,
    /// Units per sample, and in all.
    pub(super) blocks: usize,
    pub(super) units: usize,
}

/// Values per cache line.
pub(super) const LINE: usize = 16;

/// Frames up to which a unit may have twice as many positions.
const FEW: usize = 16;

/// Bytes of scores at a time, for which the L1 cache has room beside keys and values.
const SCORES: usize = 8 << 10;

impl Layout {
    pub(super) fn of<S: Simd>(problem: &Problem<'_>, threads: usize) -> Self {
        let Problem { samples, frames, sites, .. } = *problem;
        let vectors = sites.div_ceil(S::LANES);
        // Products take two vectors at a time: with an odd number of frames, the last one gets a
        // second vector.
        let pairs = frames % 2 == 1 && frames < FEW && vectors % 2 == 0;
        let wide = if pairs && samples * vectors / 2 >= threads { 2 } else { 1 };
        let columns = frames * wide * S::LANES;
        // An odd number of cache lines, so that rows do not conflict in the cache.
        let row = (columns.div_ceil(LINE) | 1) * LINE;
        let (blocks, frame) = (vectors / wide, wide * S::LANES);
        let (fill, units) = (S::ROWS - 1, samples * blocks);
        Layout { frames, wide, frame, columns, row, fill, blocks, units }
    }

    /// Sample and first position of a unit.
    pub(super) fn place(&self, unit: usize) -> (usize, usize) {
        (unit / self.blocks, unit % self.blocks * self.frame)
    }

    /// Stride between rows of a matrix with channels last, chosen likewise.
    pub(super) fn line(&self, channels: usize) -> usize {
        (channels.div_ceil(LINE) | 1) * LINE
    }

    /// Columns, two vectors at a time.
    pub(super) fn panels<S: Simd>(&self) -> usize {
        self.columns.div_ceil(gemm::panel::<S>())
    }

    /// Queries at a time.
    pub(super) fn queries<S: Simd>(&self) -> usize {
        let row = 4 * self.frames * S::LANES;
        (SCORES / row / 4 * 4).max(4).min(self.frames)
    }
}

/// Rows, including the padding of the last block of a product.
pub(super) fn whole<S: Simd>(rows: usize) -> usize {
    rows.next_multiple_of(S::ROWS)
}

impl Problem<'_> {
    pub(super) fn sizes(&self) -> Sizes {
        self.packed.sizes
    }

    /// The offset of vector `z` of frame `frame` of a unit in a video, and its number of positions.
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

    /// A product by the packed weights, of f32 or of pairs, as they are packed.
    ///
    /// # Safety
    /// As [`Simd`]; `b` has the form of the weights.
    #[inline(always)]
    pub(super) unsafe fn product<S: Simd>(&self, product: Product) {
        let shape = (product.shape.0, self.packed.steps(product.shape.1));
        let product = Product { shape, ..product };
        // SAFETY: guaranteed by the caller.
        unsafe {
            if self.packed.form == Form::Paired {
                Pairs::<S>::call(product);
            } else {
                S::call(product);
            }
        }
    }

    /// Rotated queries and keys, and values, of a head from the normalised input.
    ///
    /// # Safety
    /// As [`Simd`]; `x` is valid for `channels` rows, `qkv` for [`whole`] rows of a head.
    #[inline(always)]
    pub(super) unsafe fn project<S: Simd>(
        &self,
        l: &Layout,
        (x, packed): (*const f32, *const f32),
        qkv: *mut f32,
    ) {
        let Sizes { channels, dim, .. } = self.sizes();
        // SAFETY: guaranteed by the caller.
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

    /// Attention weights of some queries of one vector of positions, for all keys.
    ///
    /// # Safety
    /// As [`Problem::project`]; `weights` is valid for a vector for each of the queries and keys.
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
        // SAFETY: guaranteed by the caller.
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

    /// The head's output for some queries: the weighted sum of values.
    ///
    /// # Safety
    /// As [`Problem::weigh`]; `out` is valid for the rows of a head.
    #[inline(always)]
    pub(super) unsafe fn mix<S: Simd>(
        &self,
        l: &Layout,
        (weights, v): (*const f32, *const f32),
        (first, count): (usize, usize),
        out: *mut f32,
    ) {
        // SAFETY: guaranteed by the caller.
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
