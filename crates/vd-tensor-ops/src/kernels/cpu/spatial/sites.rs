//! Memory and work shared by threads for a block of images, and transposes between positions and
//! lanes.

use vd_torch::Member;

use super::pack::Shape;
use crate::kernels::cpu::linear_attention::product::Panels;
use crate::kernels::cpu::linear_attention::sites::GAP;
use crate::kernels::cpu::{Simd, gemm};

/// Positions at a time, as many whole images as fit.
const BLOCK: usize = 336;
/// Rows of a product that a thread takes at a time.
pub(super) const PIECE: usize = 84;
/// Number of values of the widest tile that is transposed.
const TILE: usize = 16 * 16;

/// Images at a time.
pub(super) fn block(shape: &Shape) -> usize {
    (BLOCK / shape.sites).clamp(1, shape.images)
}

/// Row lengths by content.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    /// Channels, followed by the factor of the norm.
    pub(super) channels: usize,
    /// Queries, keys and values.
    pub(super) qkv: usize,
    /// One of them.
    pub(super) features: usize,
}

impl Rows {
    pub(super) fn new(shape: &Shape) -> Self {
        let features = shape.features();
        Rows { channels: shape.c + GAP, qkv: 3 * features + GAP, features: features + GAP }
    }
}

/// A part of a product: its first row and panel, rows, columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) row: usize,
    panel: usize,
    pub(super) rows: usize,
    pub(super) column: usize,
    pub(super) columns: usize,
}

impl Part {
    /// This member's parts of a product of `m` rows and `n` columns.
    #[inline(always)]
    pub(super) fn of<S: Simd>(
        member: &Member<'_>,
        [m, n]: [usize; 2],
    ) -> impl Iterator<Item = Part> + use<S> {
        let (width, pieces) = (gemm::panel::<S>(), m.div_ceil(PIECE));
        member.share(n.div_ceil(width) * pieces).map(move |task| {
            let (panel, row) = (task / pieces, task % pieces * PIECE);
            let (column, rows) = (panel * width, PIECE.min(m - row));
            Part { row, panel, rows, column, columns: width.min(n - column) }
        })
    }

    /// Computes the part of `all`, with its result at `c`.
    ///
    /// # Safety
    /// As [`Panels`]; `c` is valid for the part.
    #[inline(always)]
    pub(super) unsafe fn product<S: Simd>(self, all: &Panels, c: (*mut f32, usize)) {
        let k = all.shape[2];
        // SAFETY: guaranteed by the caller.
        unsafe {
            let a = (all.a.0.add(self.row * all.a.1), all.a.1, all.a.2);
            let b = all.b.add(self.panel * gemm::panel::<S>() * k);
            S::call(Panels { a, b, c, shape: [self.rows, self.columns, k], add: all.add });
        }
    }
}

/// A product divided among threads: each takes some panels and rows.
///
/// # Safety
/// As [`Panels`]; all members pass the same product.
#[inline(always)]
pub(super) unsafe fn share<S: Simd>(member: &Member<'_>, all: &Panels) {
    let [m, n, _] = all.shape;
    for part in Part::of::<S>(member, [m, n]) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let c = all.c.0.add(part.row * all.c.1 + part.column);
            part.product::<S>(all, (c, all.c.1));
        }
    }
}

/// Transposes `count` rows of `dim` values to the first of `columns` columns of dim rows; the other
/// columns repeat the last.
///
/// # Safety
/// As [`Simd`]; `x` is valid for the rows, at least one, `to` for the columns; `dim` and `columns`
/// are multiples of the lanes.
#[inline(always)]
pub(super) unsafe fn columns<S: Simd>(
    (x, row): (*const f32, usize),
    (count, dim): (usize, usize),
    (to, to_row): (*mut f32, usize),
    columns: usize,
) {
    let mut tile = [0f32; TILE];
    for z in (0..columns).step_by(S::LANES) {
        for d in (0..dim).step_by(S::LANES) {
            // SAFETY: guaranteed by the caller; a tile is lanes by lanes.
            unsafe {
                let to = to.add(d * to_row + z);
                if z + S::LANES <= count {
                    S::transpose(x.add(z * row + d), row, to, to_row);
                    continue;
                }
                for i in 0..S::LANES {
                    let from = x.add((z + i).min(count - 1) * row + d);
                    S::store(tile.as_mut_ptr().add(i * S::LANES), S::load(from));
                }
                S::transpose(tile.as_ptr(), S::LANES, to, to_row);
            }
        }
    }
}

/// Transposes the first `count` columns of `dim` rows to rows of `dim` values.
///
/// # Safety
/// As [`columns`], in the other direction; `x` is valid for whole vectors of columns.
#[inline(always)]
pub(super) unsafe fn rows<S: Simd>(
    (x, row): (*const f32, usize),
    (count, dim): (usize, usize),
    (to, to_row): (*mut f32, usize),
) {
    let mut tile = [0f32; TILE];
    for z in (0..count).step_by(S::LANES) {
        for d in (0..dim).step_by(S::LANES) {
            // SAFETY: guaranteed by the caller; a tile is lanes by lanes.
            unsafe {
                let (x, to) = (x.add(d * row + z), to.add(z * to_row + d));
                if z + S::LANES <= count {
                    S::transpose(x, row, to, to_row);
                    continue;
                }
                S::transpose(x, row, tile.as_mut_ptr(), S::LANES);
                for i in 0..count - z {
                    let value = S::load(tile.as_ptr().add(i * S::LANES));
                    S::store(to.add(i * to_row), value);
                }
            }
        }
    }
}
