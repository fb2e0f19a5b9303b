//! Vectors for the distance between query and key: the same at every position, so with positions in
//! lanes each of their entries is one value for all lanes.

use tch::Tensor;

use super::products::{Grid, part};
use super::unit::{Layout, Problem};
use crate::kernels::cpu::{Simd, Work, pointer};

/// Vectors of keys and of values for the distances 1 - f to f - 1, contiguous in both orders.
#[derive(Debug)]
pub(super) struct Held([[Tensor; 2]; 2]);

impl Held {
    /// # Shapes
    /// `vectors`: (2f - 1) d each
    pub(super) fn new(vectors: [&Tensor; 2]) -> Self {
        let both = |t: &Tensor| [t.detach().contiguous(), t.detach().tr().contiguous()];
        Held(vectors.map(both))
    }

    pub(super) fn pointers(&self) -> Distances {
        let [keys, values] = self.0.each_ref().map(|of| {
            let [along, across] = of.each_ref().map(pointer);
            Table { along, across }
        });
        Distances { keys, values }
    }
}

/// Pointers to the vectors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Distances {
    pub(super) keys: Table,
    pub(super) values: Table,
}

/// A vector for each distance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    /// (2f - 1) d
    along: *const f32,
    /// d (2f - 1)
    across: *const f32,
}

impl Problem<'_> {
    /// Adds the dot products of some queries with the vectors of their distances to all keys.
    ///
    /// # Safety
    /// As [`Simd`]; `q` is valid for the rows of a head, `scores` for a vector for each query and
    /// key.
    #[inline(always)]
    pub(super) unsafe fn score_distances<S: Simd>(
        &self,
        l: &Layout,
        (q, table): (*const f32, Table),
        (first, count): (usize, usize),
        scores: *mut f32,
    ) {
        let (f, dim) = (l.frames, self.sizes().dim);
        // SAFETY: guaranteed by the caller.
        unsafe {
            S::call(Bands {
                a: Grid { at: q.add(first * l.frame), row: l.frame, step: l.row },
                e: Grid { at: table.across.add(f - 1 - first), row: 1, step: 2 * f - 1 },
                c: Grid { at: scores, row: f * S::LANES, step: S::LANES },
                shape: [count, f, dim],
            });
        }
    }

    /// Adds the vectors of the distances of some queries to all keys, weighted by their attention.
    ///
    /// # Safety
    /// As [`Problem::score_distances`], in the other direction.
    #[inline(always)]
    pub(super) unsafe fn mix_distances<S: Simd>(
        &self,
        l: &Layout,
        (weights, table): (*const f32, Table),
        (first, count): (usize, usize),
        out: *mut f32,
    ) {
        let (f, dim) = (l.frames, self.sizes().dim);
        // SAFETY: guaranteed by the caller.
        unsafe {
            S::call(Bands {
                a: Grid { at: weights, row: f * S::LANES, step: S::LANES },
                e: Grid { at: table.along.add((f - 1 - first) * dim), row: dim, step: dim },
                c: Grid { at: out.add(first * l.frame), row: l.frame, step: l.row },
                shape: [count, dim, f],
            });
        }
    }
}

/// c[i][j] += sum over k of a[i][k] e[k - i][j]: `a` and `c` are vectors, `e` holds one value for
/// all lanes, with adjacent entries j.
struct Bands {
    a: Grid<*const f32>,
    /// Strides: one i backwards, and one k forwards.
    e: Grid<*const f32>,
    c: Grid<*mut f32>,
    /// Of i, j and k.
    shape: [usize; 3],
}

impl Bands {
    #[inline(always)]
    unsafe fn tile<S: Simd, const J: usize>(&self, i: usize, j: usize) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let (a, e) = (self.a.at.add(i * self.a.row), self.e.at.sub(i * self.e.row).add(j));
            let c = self.c.at.add(i * self.c.row + j * self.c.step);
            let mut sum: [S::V; J] = std::array::from_fn(|j| S::load(c.add(j * self.c.step)));
            for k in 0..self.shape[2] {
                let (a, e) = (S::load(a.add(k * self.a.step)), e.add(k * self.e.step));
                for (j, sum) in sum.iter_mut().enumerate() {
                    *sum = S::fma(a, S::splat(*e.add(j)), *sum);
                }
            }
            for (j, sum) in sum.iter().enumerate() {
                S::store(c.add(j * self.c.step), *sum);
            }
        }
    }
}

/// Calls a tile with this number of columns.
macro_rules! tile {
    ($of:expr, $columns:expr, $i:expr, $j:expr) => {
        tile!($of, $columns, $i, $j, 1 2 3 4 5 6 7 8)
    };
    ($of:expr, $columns:expr, $i:expr, $j:expr, $($width:literal)*) => {
        match $columns {
            // SAFETY: guaranteed by the caller.
            $($width => unsafe { $of.tile::<S, $width>($i, $j) },)*
            _ => unreachable!("parts are of 1 to 8"),
        }
    };
}

impl Work for Bands {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let [m, n, _] = self.shape;
        for i in 0..m {
            let mut j = 0;
            while j < n {
                let columns = part(n - j, 8);
                tile!(self, columns, i, j);
                j += columns;
            }
        }
    }
}

/// c[t][e] += sum over pairs (i, j) that are t + 1 - f apart of a[i][j] b[i][e], all vectors.
pub(super) struct Spread {
    /// f f vectors.
    pub(super) a: *const f32,
    /// A row for each i.
    pub(super) b: Grid<*const f32>,
    /// (2f - 1) d vectors.
    pub(super) c: *mut f32,
    /// f and d.
    pub(super) shape: [usize; 2],
}

impl Spread {
    #[inline(always)]
    unsafe fn tile<S: Simd, const J: usize>(&self, t: usize, e: usize) {
        let [f, dim] = self.shape;
        // SAFETY: guaranteed by the caller.
        unsafe {
            let (b, c) = (self.b.at.add(e * self.b.step), self.c.add((t * dim + e) * S::LANES));
            let mut sum: [S::V; J] = std::array::from_fn(|e| S::load(c.add(e * S::LANES)));
            for i in (f - 1).saturating_sub(t)..f.min(2 * f - 1 - t) {
                let j = i + t + 1 - f;
                let (a, b) = (S::load(self.a.add((i * f + j) * S::LANES)), b.add(i * self.b.row));
                for (e, sum) in sum.iter_mut().enumerate() {
                    *sum = S::fma(a, S::load(b.add(e * self.b.step)), *sum);
                }
            }
            for (e, sum) in sum.iter().enumerate() {
                S::store(c.add(e * S::LANES), *sum);
            }
        }
    }
}

impl Work for Spread {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let [f, dim] = self.shape;
        for t in 0..2 * f - 1 {
            let mut e = 0;
            while e < dim {
                let columns = part(dim - e, 8);
                tile!(self, columns, t, e);
                e += columns;
            }
        }
    }
}
