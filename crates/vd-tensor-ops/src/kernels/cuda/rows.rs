//! Norms over adjacent channels: the division of work, and the kernels' parameters.

use std::ffi::c_void;
use std::sync::Arc;

use tch::{Kind, Tensor};
use vd_torch::cuda::Launch;

use super::machine::has_kind;
use super::{Machine, Unit};
use crate::kernels::check;

/// Threads per block.
pub(super) const THREADS: u32 = 256;
/// Maximum number of positions over which one thread sums values in f32.
const IN_F32: u32 = 64;
/// The cost of the start and end of a block that computes sums, in iterations over its positions.
const ENDS: u32 = 4;

/// Declared as in `cu/rows.cuh`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Norm {
    pub(super) x: *const c_void,
    pub(super) grad: *const c_void,
    pub(super) residual: *const c_void,
    pub(super) out: *mut c_void,
    pub(super) gain: *const f32,
    pub(super) shift: *const f32,
    pub(super) statistics: *mut f32,
    pub(super) means: *mut f32,
    pub(super) partials: *mut f32,
    pub(super) positions: u32,
    pub(super) c: u32,
    pub(super) lanes: u32,
    pub(super) chunks: u32,
    pub(super) segments_per_row: u32,
    pub(super) segments_per_sample: u32,
    pub(super) groups: u32,
}

/// The name of a dtype in kernels.
pub(super) fn kind_name(kind: Kind) -> &'static str {
    if kind == Kind::BFloat16 { "bf16" } else { "f32" }
}

/// Number of values in 16 bytes.
pub(super) fn vector(kind: Kind) -> i64 {
    if kind == Kind::BFloat16 { 8 } else { 4 }
}

/// How the channels of a position are distributed over lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lanes {
    pub(super) kind: Kind,
    pub(super) c: u32,
    /// Lanes per position.
    pub(super) lanes: u32,
    /// Vectors per lane.
    pub(super) vectors: u32,
}

impl Lanes {
    /// None if no kernel takes so many channels.
    pub(super) fn new(kind: Kind, c: i64) -> Option<Self> {
        let width = vector(kind);
        if !has_kind(kind) || c < width || c % width != 0 || c > 1024 {
            return None;
        }
        let all = u32::try_from(c / width).ok()?;
        let lanes = all.next_power_of_two().min(32);
        let vectors = all.div_ceil(lanes).next_power_of_two();
        Some(Lanes { kind, c: u32::try_from(c).ok()?, lanes, vectors })
    }

    /// Positions that a block processes at a time.
    fn together(self) -> u32 {
        THREADS / self.lanes
    }

    /// Blocks for each of `segments`, for at least `wanted` in total if there is enough work.
    pub(super) fn chunks(self, positions: u32, segments: u32, wanted: u32) -> u32 {
        wanted.div_ceil(segments).clamp(1, positions.div_ceil(self.together()))
    }

    /// The same, with no thread summing more positions in f32 than allowed.
    pub(super) fn chunks_of_sums(self, positions: u32, segments: u32, wanted: u32) -> u32 {
        let rounds = positions.div_ceil(self.together());
        self.chunks(positions, segments, wanted).max(rounds.div_ceil(IN_F32))
    }

    /// The same for blocks of which a GPU holds `places` at a time: a last wave with few blocks
    /// leaves most of the GPU idle, so the number of blocks is chosen to nearly fill the last wave.
    pub(super) fn chunks_in_waves(self, positions: u32, segments: u32, places: u32) -> u32 {
        let rounds = positions.div_ceil(self.together());
        let least = rounds.div_ceil(IN_F32).max(1);
        let most = (4 * least).max(2 * places.div_ceil(segments)).min(rounds).max(least);
        let takes = |chunks: &u32| {
            let waves = (u64::from(segments) * u64::from(*chunks)).div_ceil(u64::from(places));
            waves * u64::from(rounds.div_ceil(*chunks) + ENDS)
        };
        (least..=most).min_by_key(takes).unwrap_or(least)
    }

    pub(super) fn kernel(self, name: &str) -> String {
        format!("{name}_{}_{}", kind_name(self.kind), self.vectors)
    }

    /// The parameters other than pointers.
    pub(super) fn norm(self) -> Norm {
        let (null, null_mut) = (std::ptr::null(), std::ptr::null_mut());
        Norm {
            x: null,
            grad: null,
            residual: null,
            out: null_mut,
            gain: std::ptr::null(),
            shift: std::ptr::null(),
            statistics: std::ptr::null_mut(),
            means: std::ptr::null_mut(),
            partials: std::ptr::null_mut(),
            positions: 0,
            c: self.c,
            lanes: self.lanes,
            chunks: 1,
            segments_per_row: 1,
            segments_per_sample: 1,
            groups: 1,
        }
    }

    /// The same, with x, gains and the number of positions per segment.
    pub(super) fn norm_of(
        self,
        (x, gain): (&Tensor, &Tensor),
        positions: u32,
        chunks: u32,
    ) -> Norm {
        Norm { x: read(x), gain: floats(gain), positions, chunks, ..self.norm() }
    }

    /// One block for each chunk of each segment; `sums` tells whether they sum values.
    pub(super) fn launch(self, segments: u32, chunks: u32, sums: bool) -> Launch {
        let shared = if sums { THREADS / 32 * self.c * 4 } else { 0 };
        Launch { blocks: segments * chunks, threads: THREADS, shared }
    }
}

/// The machine that runs a unit on x and the tensors that belong to it, if any.
pub(super) fn fits(
    unit: Unit,
    x: &Tensor,
    gains: &[&Tensor],
    residual: Option<&Tensor>,
) -> Option<Arc<dyn Machine>> {
    let alike = |t: &Tensor| t.kind() == x.kind() && t.size() == x.size();
    if x.numel() == 0 || x.dim() != 5 || !residual.is_none_or(alike) {
        return None;
    }
    Lanes::new(x.kind(), x.size()[4])?;
    let all: Vec<_> = [x].into_iter().chain(gains.iter().copied()).chain(residual).collect();
    super::machine_of(unit, &all)
}

/// # Panics
/// A residual that is not as x is.
pub(super) fn check_residual(what: &str, x: &Tensor, residual: Option<&Tensor>) {
    let Some(residual) = residual else { return };
    check::shape(what, residual, &x.size());
    let (expected, got) = (x.kind(), residual.kind());
    assert!(got == expected, "{what}: expected {expected:?}, got {got:?} of shape {:?}", x.size());
}

/// A tensor as kernels take it: contiguous, from a multiple of 16 bytes on.
pub(super) fn operand(x: &Tensor) -> Tensor {
    let x = x.detach().contiguous();
    if (x.data_ptr() as usize).is_multiple_of(16) { x } else { x.copy() }
}

pub(super) fn read(x: &Tensor) -> *const c_void {
    x.data_ptr()
}

pub(super) fn read_or_null(x: Option<&Tensor>) -> *const c_void {
    x.map_or(std::ptr::null(), read)
}

pub(super) fn floats(x: &Tensor) -> *mut f32 {
    x.data_ptr().cast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_channel_has_a_lane_and_every_lane_a_kernel() {
        for (kind, most) in [(Kind::Float, 8), (Kind::BFloat16, 4)] {
            for c in 1..=1100 {
                let fits = c % vector(kind) == 0 && c <= 1024;
                let lanes = Lanes::new(kind, c);
                assert_eq!(lanes.is_some(), fits, "{kind:?} {c}");
                let Some(of) = lanes else { continue };
                let room = i64::from(of.lanes * of.vectors) * vector(kind);
                assert!(room >= c && of.lanes.is_power_of_two() && of.lanes <= 32, "{of:?}");
                assert!(of.vectors.is_power_of_two() && of.vectors <= most, "{of:?}");
            }
        }
    }

    #[test]
    fn blocks_of_sums_nearly_fill_the_places_of_a_gpu() {
        let Some(lanes) = Lanes::new(Kind::BFloat16, 64) else { panic!("64 channels") };
        // Clips of 10 frames of 64 x 64, 32 samples, and 3 blocks on each of 132 multiprocessors:
        // the minimum that respects the limit of sums in f32 would be 640 blocks, with 244 in the
        // last wave.
        let chunks = lanes.chunks_in_waves(40960, 32, 396);
        assert_eq!((chunks, (32 * chunks).div_ceil(396)), (24, 2));
        for positions in [1, 5, 64, 4096, 40960, 1 << 20] {
            for segments in [1, 2, 32, 320] {
                for places in [1, 3, 132, 396] {
                    let chunks = lanes.chunks_in_waves(positions, segments, places);
                    let rounds = positions.div_ceil(lanes.together());
                    assert!(chunks >= 1 && chunks <= rounds, "{positions} {segments} {places}");
                    assert!(rounds.div_ceil(chunks) <= IN_F32, "{positions} {segments} {places}");
                }
            }
        }
    }

    #[test]
    fn no_block_is_without_a_position() {
        let of = |c| Lanes::new(Kind::Float, c);
        for lanes in [of(16), of(64), of(1024)].into_iter().flatten() {
            for positions in [1, 5, 64, 4096, 40960] {
                for wanted in [1, 500, 100_000] {
                    let chunks = lanes.chunks_of_sums(positions, 3, wanted);
                    assert!((chunks - 1) * lanes.together() < positions, "{lanes:?} {positions}");
                    let each = positions.div_ceil(lanes.together()).div_ceil(chunks);
                    assert!(each <= IN_F32, "{each}");
                }
            }
        }
    }
}
