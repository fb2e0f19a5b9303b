//! Dropout whose mask is a function of each value's position, so that no mask is stored.

use std::sync::Arc;

use tch::Tensor;
use vd_torch::{BoxError, Function, team};

use super::{Isa, Simd, Work, none, one, pointer};
use crate::derive_seed;
use crate::kernels::check;

/// Which values are dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct DropMask {
    /// One seed per sample.
    pub seeds: Arc<[u64]>,
    /// Which of a sample's masks.
    pub site: u64,
    /// The fraction of values that is dropped.
    ///
    /// # Range
    /// 0 or more, below 1
    pub rate: f64,
    /// Factor of the values that are kept.
    pub gain: f64,
}

impl DropMask {
    /// # Panics
    /// Fewer than two axes, another number of samples than of seeds.
    pub(crate) fn check(&self, x: &Tensor) {
        let (size, seeds) = (x.size(), self.seeds.len());
        assert!(
            size.len() >= 2 && size[0] == seeds as i64,
            "the input of a dropout with {seeds} seeds: expected shape {seeds} f ..., got {size:?}"
        );
    }

    /// Of 2^32, how many numbers drop a value.
    pub(crate) fn bound(&self) -> u32 {
        (2f64.powi(32) * self.rate).round() as u32
    }
}

/// x with values dropped; the same on every call, with any number of threads and any instruction
/// set.
///
/// Whether a value is dropped depends on the mask, its sample's seed, its frame and its position in
/// the frame.
///
/// # Shapes
/// b f ... -> the same
///
/// # Panics
/// Fewer than two axes, a number of seeds that differs from that of samples; a tensor that is not
/// f32 on the CPU.
pub fn drop_out(isa: Isa, x: &Tensor, mask: &DropMask) -> Tensor {
    let size = x.size();
    mask.check(x);
    check::plain("the input of a dropout", x);
    let x = x.detach().contiguous();
    let y = x.empty_like();
    let frames = size[1] as usize;
    let total = x.numel();
    let each = (total / (mask.seeds.len() * frames).max(1)).max(1);
    let ends = &Ends { x: pointer(&x), y: y.data_ptr() as *mut f32 };
    team(|member| {
        let mut range = member.share(total);
        while !range.is_empty() {
            let (frame, first) = (range.start / each, range.start % each);
            let count = (each - first).min(range.len());
            let key =
                derive_seed(mask.seeds[frame / frames], &[mask.site, (frame % frames) as u64]);
            // SAFETY: within both tensors, of which threads write different parts.
            let (x, y) = unsafe { (ends.x.add(range.start), ends.y.add(range.start)) };
            isa.run(Part { x, y, count, first, key, mask });
            range.start += count;
        }
    });
    y
}

/// Source and target of the values.
struct Ends {
    x: *const f32,
    y: *mut f32,
}

// SAFETY: threads only read shared data, and write to separate memory.
unsafe impl Sync for Ends {}

/// Neighbouring values of a frame.
struct Part<'a> {
    x: *const f32,
    y: *mut f32,
    count: usize,
    /// Position of the first in its frame.
    first: usize,
    key: u64,
    mask: &'a DropMask,
}

/// 32 bits from a position and two keys.
///
/// # Reference
/// Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3": a bijection of a counter
/// instead of a state. Multipliers and shifts are those of Wellons' `lowbias32` (2018), with one
/// key before them and one between, so that no mask is a permutation of another.
#[inline(always)]
fn bits(place: u32, before: u32, between: u32) -> u32 {
    let x = place ^ before;
    let x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D).wrapping_add(between);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

impl Work for Part<'_> {
    type Out = ();

    /// Plain arithmetic, which the compiler vectorises for the instruction set.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (before, between) = (self.key as u32, (self.key >> 32) as u32);
        let (bound, gain) = (self.mask.bound(), self.mask.gain as f32);
        for i in 0..self.count {
            let bits = bits((self.first + i) as u32, before, between);
            let factor = if bits < bound { 0.0 } else { gain };
            // SAFETY: guaranteed by the caller.
            unsafe { *self.y.add(i) = *self.x.add(i) * factor };
        }
    }
}

/// Differentiable [`drop_out`], which recomputes the mask.
///
/// # Shapes
/// b f ... -> the same
///
/// # Panics
/// As [`drop_out`].
pub fn dropped_out(isa: Isa, x: &Tensor, mask: &DropMask) -> Tensor {
    one(&[x], |_| (drop_out(isa, x, mask), Backward { isa, mask: mask.clone() }))
}

#[derive(Debug)]
struct Backward {
    isa: Isa,
    mask: DropMask,
}

impl Function for Backward {
    fn backward(
        &self,
        _saved: &[Tensor],
        grads: &[Option<Tensor>],
        needs: &[bool],
    ) -> Result<Vec<Option<Tensor>>, BoxError> {
        let Some(Some(grad)) = grads.first() else { return Ok(none(needs.len())) };
        Ok(vec![Some(drop_out(self.isa, grad, &self.mask))])
    }

    fn name(&self) -> &'static str {
        "dropout"
    }
}
