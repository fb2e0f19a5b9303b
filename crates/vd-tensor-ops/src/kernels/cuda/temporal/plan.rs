//! How attention along time is divided over blocks.

use tch::Kind;

use crate::layers::HeadShape;

/// Bytes of shared memory that a block can have on every GPU that offers more than 48 KiB.
const MOST_SHARED: u32 = 96 << 10;
/// Bytes of shared memory per multiprocessor, and the overhead per block, of an H100. Other GPUs
/// have 100 KiB or more; the best plan for an H100 is the best one there too, or nearly so.
const SHARED: u32 = 228 << 10;
const COST: u32 = 1 << 10;
/// Maximum number of blocks per multiprocessor.
const BLOCKS: u32 = 32;
/// Maximum number of threads per block.
const THREADS: u32 = 128;
/// Bytes of `Place` in `cu/temporal.cuh`, one for each unit.
const PLACE: u32 = 24;
/// Bytes of adjacent memory that are best read together.
const LINE: u32 = 128;

/// Direction of the pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    Forward,
    Backward { bias: bool },
}

/// How units are divided over blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Units per block.
    pub(super) units: u32,
    /// Number of heads to which the units of a block belong: fewer than all if each needs memory of
    /// its own.
    pub(super) heads: u32,
    pub(super) threads: u32,
    pub(super) shared: u32,
    /// Blocks that an H100's multiprocessor holds at a time.
    pub(super) resident: u32,
    /// Working threads of all those blocks.
    busy: u32,
}

impl Plan {
    /// The plan with most working threads per multiprocessor; None if shared memory is too small.
    pub(super) fn new(frames: i64, shape: HeadShape, kind: Kind, pass: Pass) -> Option<Plan> {
        let number = |n: i64| u32::try_from(n).ok();
        let (f, d, n) = (number(frames)?, number(shape.dim)?, number(shape.heads)?);
        let size = if kind == Kind::BFloat16 { 2 } else { 4 };
        let queries = if d == 64 { 1 } else { 2 };
        let each = f.div_ceil(queries);
        let plan = |heads: u32, units: u32| {
            let threads = (units * each).next_multiple_of(32);
            // Rows of the frames, plus one vector.
            let rows = units * (f * d * size + 16);
            let bytes = match pass {
                Pass::Forward => 2 * rows + 4 * queries * f * threads,
                Pass::Backward { bias } => {
                    let sums = if bias { heads.saturating_mul(4 * f * f) } else { 0 };
                    sums.saturating_add(rows + 8 * units * f * (f + 1))
                }
            };
            let bytes = bytes.checked_next_multiple_of(16).filter(|bytes| *bytes <= MOST_SHARED)?;
            let shared = (units * PLACE).next_multiple_of(16) + bytes;
            let room = registers(kind, d, pass) * THREADS / threads;
            let resident = (SHARED / (shared + COST)).min(room).min(BLOCKS);
            let busy = resident * units * each;
            let fits = shared <= MOST_SHARED && resident > 0;
            fits.then_some(Plan { units, heads, threads, shared, resident, busy })
        };
        // Heads of a position are adjacent in memory.
        let splits = pass == Pass::Backward { bias: true };
        let whole = |heads: u32| heads == n || (splits && heads * d * size >= LINE);
        let divisors = (1..=n).filter(|heads| n.is_multiple_of(*heads) && whole(*heads));
        let all = divisors.flat_map(|heads| (1..=THREADS / each).map(move |units| (heads, units)));
        all.filter_map(|(heads, units)| plan(heads, units))
            .max_by_key(|plan| (plan.busy, plan.heads, plan.units))
    }
}

/// Blocks of [`THREADS`] threads for which the registers of a multiprocessor suffice, as the
/// kernels are compiled.
fn registers(kind: Kind, dim: u32, pass: Pass) -> u32 {
    match (pass, kind, dim) {
        (Pass::Forward, _, _) | (_, _, 16) | (_, Kind::BFloat16, 64) => 5,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 2] = [Kind::Float, Kind::BFloat16];

    #[test]
    fn blocks_have_whole_warps_and_memory_that_every_gpu_has() {
        for (kind, dim, frames) in KINDS
            .into_iter()
            .flat_map(|kind| [16, 32, 64].map(|dim| (kind, dim)))
            .flat_map(|(kind, dim)| (1..=32).map(move |frames| (kind, dim, frames)))
        {
            for pass in [Pass::Forward, Pass::Backward { bias: true }] {
                for heads in [1, 6, 8, 64] {
                    let plan = Plan::new(frames, HeadShape { heads, dim }, kind, pass);
                    assert!(
                        plan.is_some_and(|plan| plan.units > 0
                            && heads % i64::from(plan.heads) == 0
                            && plan.threads.is_multiple_of(32)
                            && plan.threads <= THREADS
                            && plan.shared.is_multiple_of(16)
                            && plan.shared <= MOST_SHARED),
                        "{kind:?} {dim} {frames} {heads} {pass:?} {plan:?}"
                    );
                }
            }
        }
        // A prime number of heads cannot be split, and sums for all of them are too large.
        let prime = HeadShape { heads: 61, dim: 16 };
        assert_eq!(Plan::new(32, prime, Kind::BFloat16, Pass::Backward { bias: true }), None);
    }

    #[test]
    fn the_usual_clips_leave_a_multiprocessor_enough_to_do() {
        for (frames, dim) in [(10, 32), (10, 64), (16, 32), (16, 64)] {
            for pass in [Pass::Forward, Pass::Backward { bias: true }] {
                let shape = HeadShape { heads: 8, dim };
                let plan = Plan::new(frames, shape, Kind::BFloat16, pass);
                let warps = plan.map(|plan| plan.resident * plan.threads / 32);
                assert!(warps.is_some_and(|warps| warps >= 16), "{frames} {dim} {pass:?} {plan:?}");
            }
        }
    }
}
