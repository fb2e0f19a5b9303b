//! Weights of an attention, packed for the kernels' products.

use vd_torch::team;

use crate::kernels::cpu::{Block, Isa, Simd, Work, gemm, paired};

/// Sizes of an attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) channels: usize,
    pub(super) heads: usize,
    pub(super) dim: usize,
}

impl Sizes {
    /// Features of all heads together.
    pub(super) fn inner(self) -> usize {
        self.heads * self.dim
    }

    /// Number of rows of queries, keys and values of a head.
    pub(super) fn three(self) -> usize {
        3 * self.dim
    }

    /// Index of row `i` of a head's queries, keys and values, among those of all heads.
    pub(super) fn row(self, head: usize, i: usize) -> usize {
        i / self.dim * self.inner() + head * self.dim + i % self.dim
    }
}

/// Pointers to the weights, contiguous.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights {
    /// c
    pub(super) gamma: *const f32,
    /// (3 n d) c
    pub(super) to_qkv: *const f32,
    /// c (n d)
    pub(super) to_out: *const f32,
}

// SAFETY: the weights are only read.
unsafe impl Sync for Weights {}

/// The purpose of packed weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The attention in f32.
    Whole,
    /// The attention with bf16 pairs.
    Paired,
    /// The gradient.
    Back,
}

/// Packed weights; the norm's gain and the scale of the queries are included in those of the heads.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) sizes: Sizes,
    /// Factor of a row of the joint projection besides the gain, for queries and for the others.
    scale: f32,
    /// Rows per block.
    rows: usize,
    /// For each head, the values of `three` rows by `channels`, or their transpose.
    heads: Block,
    /// `channels` rows by `inner`, or for each head `dim` rows by `channels`.
    out: Block,
    pub(super) form: Form,
}

/// Target of the packed values.
struct To(*mut f32, *mut f32);

// SAFETY: threads write to separate memory.
unsafe impl Sync for To {}

/// `ROWS` of the instruction set that runs it.
struct RowsOf;

impl Work for RowsOf {
    type Out = usize;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> usize {
        S::ROWS
    }
}

impl Packed {
    /// # Safety
    /// `weights` are valid for the sizes.
    pub(super) unsafe fn new(isa: Isa, sizes: Sizes, weights: Weights, form: Form) -> Self {
        let rows = isa.run(RowsOf);
        let scale = 1.0 / (sizes.dim as f32).sqrt();
        let mut packed =
            Packed { sizes, scale, rows, heads: Block::new(0), out: Block::new(0), form };
        packed.heads = Block::new(sizes.heads * packed.head_size());
        let back = form == Form::Back;
        let parts = if back { sizes.heads } else { 1 };
        packed.out = Block::new(parts * packed.out_size());
        let to =
            To(packed.heads.as_mut_slice().as_mut_ptr(), packed.out.as_mut_slice().as_mut_ptr());
        let (to, packed_ref) = (&to, &packed);
        team(|member| {
            for head in member.share(sizes.heads) {
                // SAFETY: a head's values belong to this thread only.
                unsafe { packed_ref.pack_head(head, weights, to) };
            }
            if !back && member.index == member.count - 1 {
                // SAFETY: one thread packs the whole.
                unsafe { packed_ref.pack_out(weights, to) };
            }
        });
        packed
    }

    fn head_size(&self) -> usize {
        let Sizes { channels, .. } = self.sizes;
        match self.form {
            Form::Back => gemm::packed_rows(self.rows, channels, self.sizes.three()),
            _ => gemm::packed_rows(self.rows, self.sizes.three(), self.steps(channels)),
        }
    }

    /// Number of steps of a product over `k` entries: half as many with pairs.
    pub(super) fn steps(&self, k: usize) -> usize {
        if self.form == Form::Paired { k.div_ceil(2) } else { k }
    }

    /// Size of the whole, or of a head's part for the gradient.
    fn out_size(&self) -> usize {
        let Sizes { channels, dim, .. } = self.sizes;
        match self.form {
            Form::Back => gemm::packed_rows(self.rows, dim, channels),
            _ => gemm::packed_rows(self.rows, channels, self.steps(self.sizes.inner())),
        }
    }

    /// The scale of row `i` of a head: queries include that of the scores.
    pub(super) fn scale(&self, i: usize) -> f32 {
        if i < self.sizes.dim { self.scale } else { 1.0 }
    }

    unsafe fn pack_head(&self, head: usize, weights: Weights, to: &To) {
        let Sizes { channels, dim, .. } = self.sizes;
        let three = self.sizes.three();
        // Start and scale of each row, precomputed to avoid a division for every entry.
        let rows: Vec<_> =
            (0..three).map(|i| (self.sizes.row(head, i) * channels, self.scale(i))).collect();
        // SAFETY: guaranteed by the caller; rows and columns are within the sizes.
        let entry = |i: usize, k: usize| unsafe {
            let (row, scale) = rows[i];
            *weights.to_qkv.add(row + k) * (*weights.gamma.add(k) * scale)
        };
        // SAFETY: the block has this many values for each head.
        let values = unsafe {
            let size = self.head_size();
            std::slice::from_raw_parts_mut(to.0.add(head * size), size)
        };
        if self.form != Form::Back {
            return self.pack([three, channels], values, entry);
        }
        gemm::pack_rows(self.rows, [channels, three], values, |k, i| entry(i, k));
        // SAFETY: as above.
        let values = unsafe {
            let size = self.out_size();
            std::slice::from_raw_parts_mut(to.1.add(head * size), size)
        };
        let inner = self.sizes.inner();
        // SAFETY: guaranteed by the caller; rows and columns are within the sizes.
        gemm::pack_rows(self.rows, [dim, channels], values, |i, k| unsafe {
            *weights.to_out.add(k * inner + head * dim + i)
        });
    }

    unsafe fn pack_out(&self, weights: Weights, to: &To) {
        let (channels, inner) = (self.sizes.channels, self.sizes.inner());
        // SAFETY: the block has this many values.
        let values = unsafe { std::slice::from_raw_parts_mut(to.1, self.out_size()) };
        // SAFETY: guaranteed by the caller; rows and columns are within the sizes.
        self.pack([channels, inner], values, |i, k| unsafe { *weights.to_out.add(i * inner + k) });
    }

    /// Blocks of rows, of pairs if the form has them.
    fn pack(&self, [m, k]: [usize; 2], out: &mut [f32], at: impl Fn(usize, usize) -> f32) {
        if self.form == Form::Paired {
            let pairs = |i, p| paired::of_rows(k, p, |k| at(i, k));
            gemm::pack_rows(self.rows, [m, self.steps(k)], out, pairs);
        } else {
            gemm::pack_rows(self.rows, [m, k], out, at);
        }
    }

    /// Weights from channels to queries, keys and values of a head, or for the backward of that.
    pub(super) fn head(&self, head: usize) -> *const f32 {
        // SAFETY: within the block, which has this many values for each head.
        unsafe { self.heads.as_ptr().add(head * self.head_size()) }
    }

    /// Weights from all heads' outputs to channels.
    pub(super) fn out(&self) -> *const f32 {
        self.out.as_ptr()
    }

    /// Weights from the gradient of channels to that of a head's output.
    pub(super) fn out_of(&self, head: usize) -> *const f32 {
        // SAFETY: within the block, which has this many values for each head.
        unsafe { self.out.as_ptr().add(head * self.out_size()) }
    }
}
