//! Measures the peak floating-point rate of the cores.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::{Isa, Simd, Work};

/// Accumulators per thread: enough to keep two multiply-add units busy, fewer than there are
/// registers.
const CHAINS: usize = 12;
/// Multiply-adds of each chain in one round: a few milliseconds.
const LENGTH: u64 = 4_000_000;
/// The best round counts, since it was disturbed least.
const ROUNDS: usize = 12;

/// Peak f32 operations per second of `threads` cores with the instructions of [`Isa::current`], two
/// for each multiply-add; memory is not involved.
///
/// Takes some tenths of a second: multiply-adds that never leave the registers, in several chains
/// per thread, since each waits for the one before it.
pub fn fma_peak(threads: usize) -> f64 {
    let (isa, threads) = (Isa::current(), threads.max(1));
    let rounds = (0..ROUNDS).map(|_| round(threads, || isa.run(Chains)));
    let best = rounds.min().unwrap_or(Duration::MAX);
    let multiply_adds = threads as f64 * CHAINS as f64 * LENGTH as f64 * isa.lanes() as f64;
    2.0 * multiply_adds / best.as_secs_f64()
}

/// The time from the first start to the last end of `work` on as many threads, which begin
/// together.
fn round(threads: usize, work: impl Fn() + Sync) -> Duration {
    let barrier = Barrier::new(threads);
    let one = || {
        barrier.wait();
        let start = Instant::now();
        work();
        (start, Instant::now())
    };
    let (start, end) = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(one)).collect();
        let own = one();
        // A panic of the work on any thread is passed to the caller.
        let times = others.into_iter().map(|other| match other.join() {
            Ok(times) => times,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        times.fold(own, |(start, end), (s, e)| (start.min(s), end.max(e)))
    });
    end - start
}

/// `LENGTH` multiply-adds on each of `CHAINS` vectors.
struct Chains;

impl Work for Chains {
    type Out = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // Different initial values: equal chains would be merged into one.
        let starts: [f32; CHAINS] = black_box(std::array::from_fn(|i| 1.0 + i as f32));
        // SAFETY: guaranteed by the caller.
        unsafe {
            // Converges to 2, so that no value becomes slow to compute by its size.
            let (half, one) = (S::splat(black_box(0.5)), S::splat(black_box(1.0)));
            let mut chains = [S::zero(); CHAINS];
            for (chain, start) in chains.iter_mut().zip(starts) {
                *chain = S::splat(start);
            }
            for _ in 0..LENGTH {
                for chain in &mut chains {
                    *chain = S::fma(*chain, half, one);
                }
            }
            for chain in chains {
                black_box(S::sum(chain));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_lasts_until_its_last_thread_is_done() {
        let work = || thread::sleep(Duration::from_millis(3));
        assert!(round(3, work) >= Duration::from_millis(3));
    }
}
