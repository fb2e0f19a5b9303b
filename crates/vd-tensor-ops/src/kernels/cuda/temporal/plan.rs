//! How attention along time is shared out over blocks.

use crate::layers::HeadShape;

/// Bytes of shared memory that leave room for several blocks, and that every GPU has.
const SHARED: u32 = 48 << 10;
const MOST_SHARED: u32 = 96 << 10;
/// Bytes of `Place` in `cu/temporal.cu`, one for each unit.
const PLACE: u32 = 24;
/// Threads that a block has at most.
const THREADS: u32 = 256;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    Forward,
    Backward { bias: bool },
}

/// How units are shared out over blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Units of a block.
    pub(super) units: u32,
    pub(super) threads: u32,
    pub(super) shared: u32,
}

impl Plan {
    /// As many units as leave fewest threads without work; none where shared memory is too small.
    pub(super) fn new(frames: i64, shape: HeadShape, pass: Pass) -> Option<Plan> {
        let number = |n: i64| u32::try_from(n).ok();
        let (f, d, n) = (number(frames)?, number(shape.dim)?, number(shape.heads)?);
        let queries = if d == 64 { 1 } else { 2 };
        let each = f.div_ceil(queries);
        let plan = |units: u32| {
            let threads = (units * each).next_multiple_of(32);
            let floats = 2 * units * f * (d + 4)
                + match pass {
                    Pass::Forward => queries * f * threads,
                    Pass::Backward { bias } => {
                        2 * units * f * (f + 1) + if bias { n * f * f } else { 0 }
                    }
                };
            let places = (units * PLACE).next_multiple_of(16);
            Plan { units, threads, shared: places + (4 * floats).next_multiple_of(16) }
        };
        let within = |limit: u32| {
            let all = (1..=THREADS / each).map(plan).filter(|plan| plan.shared <= limit);
            all.max_by_key(|plan| (plan.units * each * 1024 / plan.threads, plan.units))
        };
        within(SHARED).or_else(|| within(MOST_SHARED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_whole_warps_and_memory_that_every_gpu_has() {
        for dim in [16, 32, 64] {
            for frames in 1..=32 {
                for pass in [Pass::Forward, Pass::Backward { bias: true }] {
                    let shape = HeadShape { heads: 8, dim };
                    let plan = Plan::new(frames, shape, pass);
                    assert!(
                        plan.is_some_and(|plan| plan.units > 0
                            && plan.threads.is_multiple_of(32)
                            && plan.threads <= THREADS
                            && plan.shared <= MOST_SHARED),
                        "{dim} {frames} {pass:?} {plan:?}"
                    );
                }
            }
        }
        let many = HeadShape { heads: 64, dim: 32 };
        assert_eq!(Plan::new(32, many, Pass::Backward { bias: true }), None);
    }

    #[test]
    fn the_usual_clip_leaves_no_thread_without_work() {
        let plan = Plan::new(16, HeadShape { heads: 8, dim: 32 }, Pass::Forward);
        assert!(plan.is_some_and(|plan| plan.units * 8 == plan.threads && plan.threads >= 64));
    }
}
