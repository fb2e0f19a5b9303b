//! Per-thread sums, and their reduction.

use super::{Gradient, Share};
use crate::kernels::cpu::temporal::pack::Sizes;
use crate::kernels::cpu::temporal::unit::{LINE, Problem};

/// Offsets of the parts of a thread's sums, and their length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sums {
    pub(super) to_out: usize,
    pub(super) bias: usize,
    pub(super) gain: usize,
    pub(super) distances: usize,
    pub(super) len: usize,
}

impl Sums {
    pub(super) fn of(problem: &Problem<'_>, gradient: &Gradient<'_>) -> Self {
        let Sizes { channels, heads, .. } = problem.sizes();
        let to_out = problem.sizes().inner() * channels;
        let bias = 4 * to_out;
        let gain = bias + heads * problem.frames.pow(2);
        let distances = gain + channels;
        let tables = if gradient.distances.is_some() { 2 * table(problem) } else { 0 };
        Sums { to_out: 3 * to_out, bias, gain, distances, len: distances + tables }
    }
}

/// Number of values of the vectors for all distances.
fn table(problem: &Problem<'_>) -> usize {
    (2 * problem.frames).saturating_sub(1) * problem.sizes().dim
}

impl Share<'_> {
    /// Adds up the sums of all threads, and removes gain and scale from the projection.
    ///
    /// # Safety
    /// All threads call it, and none writes to sums any more.
    pub(super) unsafe fn add_up(&self) {
        let (sizes, parts, member, to) =
            (self.problem.sizes(), self.parts, &self.member, self.gradient);
        let (c, three, inner) = (sizes.channels, sizes.three(), sizes.inner());
        // SAFETY: guaranteed by the caller; each part is added up by one thread.
        unsafe {
            let weights = std::slice::from_raw_parts(to.weights.gamma, c);
            let gain = part(self.shared.sums, member.index * parts.len + parts.gain, c);
            for i in member.share(sizes.heads * three) {
                let row = sizes.row(i / three, i % three) * c;
                let (out, scale) = (part(to.to_qkv, row, c), to.back.scale(i % three));
                let weight = std::slice::from_raw_parts(to.weights.to_qkv.add(row), c);
                for (k, sum) in self.joined(i * c, c).iter().enumerate() {
                    gain[k] += sum * scale * weight[k];
                    out[k] = sum * scale * weights[k];
                }
            }
            for block in member.share(inner.div_ceil(LINE)) {
                let (first, count) = (block * LINE, LINE.min(inner - block * LINE));
                let sums = self.joined(parts.to_out + first * c, count * c);
                for k in 0..c {
                    let out = part(to.to_out, k * inner + first, count);
                    out.iter_mut().enumerate().for_each(|(i, out)| *out = sums[i * c + k]);
                }
            }
            let pairs = self.layout.frames.pow(2);
            for (i, bias) in member.share(sizes.heads).flat_map(|i| to.bias.map(|bias| (i, bias))) {
                let sums = self.joined(parts.bias + i * pairs, pairs);
                part(bias, i * pairs, pairs).copy_from_slice(sums);
            }
            let values = table(self.problem);
            for (i, table) in to.distances.into_iter().flatten().enumerate() {
                if i % member.count == member.index {
                    let sums = self.joined(parts.distances + i * values, values);
                    part(table, 0, values).copy_from_slice(sums);
                }
            }
            member.barrier();
            if member.index == 0 {
                part(to.gamma, 0, c).copy_from_slice(self.joined(parts.gain, c));
            }
        }
    }

    /// `len` sums of all threads, from `from` on, in the order of the threads.
    unsafe fn joined(&self, from: usize, len: usize) -> &[f32] {
        // SAFETY: guaranteed by the caller, who has exclusive access to these.
        unsafe {
            let all = part(self.shared.sums, from, len);
            for m in 1..self.member.count {
                let more = part(self.shared.sums, m * self.parts.len + from, len);
                all.iter_mut().zip(more).for_each(|(sum, more)| *sum += *more);
            }
            all
        }
    }
}

/// `len` values from `from` on.
///
/// # Safety
/// They exist, and nobody else accesses them meanwhile.
unsafe fn part<'a>(at: *mut f32, from: usize, len: usize) -> &'a mut [f32] {
    // SAFETY: guaranteed by the caller.
    unsafe { std::slice::from_raw_parts_mut(at.add(from), len) }
}
