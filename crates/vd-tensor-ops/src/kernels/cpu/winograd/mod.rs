//! The 3 x 3 convolution over space by Winograd's minimal filtering, channels last.
//!
//! A tile of the input is transformed to N x N points, each point is a matrix product over
//! channels, and the points of all outputs are transformed back to positions, to which the
//! [`Epilogue`] is applied while they are in the cache.

mod pack;
mod scheme;
mod transform;
mod weight_grad;

use vd_torch::{Member, Tasks, team};

pub(crate) use pack::Packed;
use scheme::{Four, Scheme, Two};
use transform::Image;
pub(crate) use weight_grad::WeightGrad;

use super::epilogue::Epilogue;
use super::{Isa, Scratch, Simd, Work, gemm};

/// Gap between rows of points, so that they do not conflict in the cache.
const GAP: usize = 16;

/// The tile size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tiles {
    /// F(2 x 2, 3 x 3): 2.25 times fewer multiplications than the direct method.
    Two,
    /// F(4 x 4, 3 x 3): 4 times fewer.
    Four,
}

impl Tiles {
    /// Four, unless tiles are so few that reading the weights dominates, or extend beyond the edge.
    pub(crate) fn of(images: usize, h: usize, w: usize) -> Self {
        let tiles = |m: usize| images * h.div_ceil(m) * w.div_ceil(m);
        if tiles(4) < 10 || 36 * tiles(4) > 16 * tiles(2) { Tiles::Two } else { Tiles::Four }
    }

    const fn edge(self) -> usize {
        match self {
            Tiles::Two => 2,
            Tiles::Four => 4,
        }
    }

    const fn points(self) -> usize {
        match self {
            Tiles::Two => 16,
            Tiles::Four => 36,
        }
    }
}

/// Channels of images that are adjacent in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    pub(crate) at: *const f32,
    pub(crate) channels: usize,
}

/// A convolution: pointers and sizes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conv<'a> {
    pub(crate) packed: &'a Packed,
    /// The inputs: the second's channels follow the first's, and may be zero in number.
    pub(crate) sources: [Source; 2],
    pub(crate) images: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    /// c values, or null.
    pub(crate) bias: *const f32,
    pub(crate) epilogue: Option<Epilogue>,
    pub(crate) out: *mut f32,
}

// SAFETY: threads only read shared data, and write to separate memory.
unsafe impl Sync for Conv<'_> {}

/// The traversal of tiles.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// Tiles down and across an image, and in all.
    down: usize,
    across: usize,
    tiles: usize,
    /// Tiles at a time.
    block: usize,
    /// Stride between rows of inputs and of outputs at a point.
    rows: (usize, usize),
    /// Shared buffers, if threads divide the points of a block.
    shared: Option<(*mut f32, *mut f32)>,
}

// SAFETY: as for `Conv`.
unsafe impl Sync for Plan {}

impl Conv<'_> {
    /// # Safety
    /// Pointers are valid for the shapes; channels are a multiple of the lanes; `out` overlaps
    /// nothing but, position by position, the residual.
    pub(crate) unsafe fn run(&self, isa: Isa) {
        let edge = self.packed.tiles.edge();
        let (down, across) = (self.h.div_ceil(edge), self.w.div_ceil(edge));
        let (inputs, outputs) = (self.packed.inputs, self.packed.outputs);
        let rows = (inputs + GAP, self.packed.width() + GAP);
        let mut plan =
            Plan { down, across, tiles: self.images * down * across, block: 0, rows, shared: None };
        // A block's points fit the L2 cache beside the weights of one point; wide layers have so
        // many weights that each must be read once, by one thread, for all tiles.
        let points = self.packed.tiles.points();
        let small = inputs * outputs <= 128 * 256 && plan.tiles >= 112;
        plan.block = if small { SMALL_BLOCK } else { plan.tiles.min(LARGE_BLOCK) };
        let sizes = [rows.0, rows.1].map(|row| points * plan.block * row);
        let mut buffers = if small { None } else { Some(sizes.map(Scratch::take)) };
        plan.shared = buffers.as_mut().map(|[a, b]| (a.as_mut_ptr(), b.as_mut_ptr()));
        let (plan, blocks) = (&plan, &Tasks::new(plan.tiles.div_ceil(plan.block), 1));
        team(|member: Member| match self.packed.tiles {
            // SAFETY: guaranteed by the caller.
            Tiles::Two => isa.run(Share::<Two, 4, 2>::new(self, plan, (member, blocks))),
            // SAFETY: guaranteed by the caller.
            Tiles::Four => isa.run(Share::<Four, 6, 4>::new(self, plan, (member, blocks))),
        });
    }
}

/// Tiles of a block that one thread takes through all points: a multiple of the product rows of
/// every instruction set.
const SMALL_BLOCK: usize = 84 / 3;
/// Tiles of a block whose points are divided among threads.
const LARGE_BLOCK: usize = 168;

/// The work of one thread.
struct Share<'a, T, const N: usize, const M: usize> {
    conv: &'a Conv<'a>,
    plan: &'a Plan,
    member: Member<'a>,
    /// Blocks that no thread has taken yet.
    blocks: &'a Tasks,
    scheme: std::marker::PhantomData<T>,
}

impl<'a, T: Scheme<N, M>, const N: usize, const M: usize> Share<'a, T, N, M> {
    fn new(conv: &'a Conv<'a>, plan: &'a Plan, (member, blocks): (Member<'a>, &'a Tasks)) -> Self {
        Share { conv, plan, member, blocks, scheme: std::marker::PhantomData }
    }

    /// Image of a tile, and the position of its first output.
    #[inline(always)]
    fn place(&self, tile: usize) -> (usize, usize, usize) {
        let (image, rest) = (tile / (self.plan.down * self.plan.across), tile);
        let rest = rest % (self.plan.down * self.plan.across);
        (image, rest / self.plan.across * M, rest % self.plan.across * M)
    }

    /// The points of tile `tile` as row `row` of each.
    #[inline(always)]
    unsafe fn gather<S: Simd>(&self, tile: usize, to: *mut f32, row: usize) {
        let (conv, (image, y, x)) = (self.conv, self.place(tile));
        let mut first = row * self.plan.rows.0;
        for source in conv.sources.iter().filter(|source| source.channels > 0) {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let at = source.at.add(image * conv.h * conv.w * source.channels);
                let image = Image { at, h: conv.h, w: conv.w, c: source.channels };
                let point = self.plan.block * self.plan.rows.0;
                transform::input::<S, T, N, M>(image, (y, x), to.add(first), point);
            }
            first += source.channels;
        }
    }

    /// The matrix product of point `point` for `count` tiles.
    #[inline(always)]
    unsafe fn product<S: Simd>(&self, from: *const f32, to: *mut f32, point: usize, count: usize) {
        let (packed, plan) = (self.conv.packed, self.plan);
        // SAFETY: guaranteed by the caller.
        unsafe {
            let a = (from.add(point * plan.block * plan.rows.0), plan.rows.0);
            let c = (to.add(point * plan.block * plan.rows.1), plan.rows.1);
            let shape = [count, packed.outputs, packed.inputs];
            gemm::by_panels::<S>(a, packed.point(point), c, shape);
        }
    }

    /// Writes the positions of a tile that lie in the image; `tile` has room for M x M positions.
    #[inline(always)]
    unsafe fn scatter<S: Simd>(
        &self,
        number: usize,
        (from, row): (*const f32, usize),
        tile: *mut f32,
    ) {
        let (conv, c) = (self.conv, self.conv.packed.outputs);
        let (image, y, x) = self.place(number);
        // SAFETY: guaranteed by the caller.
        unsafe {
            let from = (from.add(row * self.plan.rows.1), self.plan.block * self.plan.rows.1);
            transform::output::<S, T, N, M>(from, conv.bias, tile, c);
            for i in 0..M.min(conv.h - y) {
                for j in 0..M.min(conv.w - x) {
                    let at = ((image * conv.h + y + i) * conv.w + x + j) * c;
                    let (value, out) = (tile.add((i * M + j) * c), conv.out.add(at));
                    match &conv.epilogue {
                        Some(epilogue) => epilogue.apply::<S>(value, out, c, (image, at)),
                        None => std::ptr::copy_nonoverlapping(value, out, c),
                    }
                }
            }
        }
    }

    /// Processes blocks of tiles, each by one thread: the next free thread takes the next block.
    #[inline(always)]
    unsafe fn by_blocks<S: Simd>(&self) {
        let plan = self.plan;
        let size = |row: usize| N * N * plan.block * row;
        let mut tile = Scratch::take(M * M * self.conv.packed.outputs);
        let (mut points, mut products) =
            (Scratch::take(size(plan.rows.0)), Scratch::take(size(plan.rows.1)));
        let (points, products, tile) =
            (points.as_mut_ptr(), products.as_mut_ptr(), tile.as_mut_ptr());
        while let Some(block) = self.blocks.take().map(|block| block.start) {
            let first = block * plan.block;
            let count = plan.block.min(plan.tiles - first);
            // SAFETY: guaranteed by the caller; the buffers have a row for each tile of a block.
            unsafe {
                for k in 0..count {
                    self.gather::<S>(first + k, points, k);
                }
                for point in 0..N * N {
                    self.product::<S>(points, products, point, count);
                }
                for k in 0..count {
                    self.scatter::<S>(first + k, (products, k), tile);
                }
            }
        }
    }

    /// Processes blocks of tiles, the points of each divided among the threads.
    #[inline(always)]
    unsafe fn by_points<S: Simd>(&self, points: *mut f32, products: *mut f32) {
        let plan = self.plan;
        let mut tile = Scratch::take(M * M * self.conv.packed.outputs);
        let tile = tile.as_mut_ptr();
        for first in (0..plan.tiles).step_by(plan.block) {
            let count = plan.block.min(plan.tiles - first);
            // SAFETY: guaranteed by the caller; the buffers have a row for each tile of a block.
            unsafe {
                for k in self.member.share(count) {
                    self.gather::<S>(first + k, points, k);
                }
                self.member.barrier();
                for point in self.member.share(N * N) {
                    self.product::<S>(points, products, point, count);
                }
                self.member.barrier();
                for k in self.member.share(count) {
                    self.scatter::<S>(first + k, (products, k), tile);
                }
            }
        }
    }
}

impl<T: Scheme<N, M>, const N: usize, const M: usize> Work for Share<'_, T, N, M> {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            match self.plan.shared {
                Some((points, products)) => self.by_points::<S>(points, products),
                None => self.by_blocks::<S>(),
            }
        }
    }
}
