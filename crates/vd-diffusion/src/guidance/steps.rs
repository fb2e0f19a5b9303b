//! Which step of a run a denoiser is in.

use std::cell::Cell;

use crate::Progress;

/// Counts the steps of a run, whatever a sampler asks within one.
///
/// Outside a run it stays at the first.
#[derive(Debug, Default)]
pub(super) struct Steps(Cell<Count>);

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    /// Whether the run is one from noise to data.
    falls: bool,
    done: usize,
}

impl Steps {
    pub(super) fn follow(&self, progress: Progress) {
        let count = self.0.get();
        self.0.set(match progress {
            Progress::Sampling { .. } => Count { falls: true, done: 0 },
            Progress::Inverting { .. } => Count { falls: false, done: 0 },
            Progress::Step => Count { done: count.done + 1, ..count },
            Progress::Raised => count,
        });
    }

    /// How many are done.
    pub(super) fn done(&self) -> usize {
        self.0.get().done
    }

    /// Whether this is one of the first `n` of a run from noise to data.
    pub(super) fn is_among_the_first(&self, n: usize) -> bool {
        let count = self.0.get();
        count.falls && count.done < n
    }
}
