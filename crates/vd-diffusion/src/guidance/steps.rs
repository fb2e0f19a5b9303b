//! Tracks the current step of a run.

use std::cell::Cell;

use crate::Progress;

/// Counts the steps of a run, independently of the evaluations within a step.
///
/// Outside a run it stays at the first step.
#[derive(Debug, Default)]
pub(super) struct Steps(Cell<Count>);

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    /// Whether the run goes from noise to data.
    falls: bool,
    done: usize,
    /// Number of steps of the run.
    of: usize,
}

impl Steps {
    pub(super) fn follow(&self, progress: Progress) {
        let count = self.0.get();
        self.0.set(match progress {
            Progress::Sampling { steps } => Count { falls: true, done: 0, of: steps },
            Progress::Inverting { steps } => Count { falls: false, done: 0, of: steps },
            Progress::Step => Count { done: count.done + 1, ..count },
            Progress::Raised => count,
        });
    }

    /// The number of steps that this one stands for if every `every`-th acts, starting with the
    /// first: itself and those up to the next acting one, but no more than are left; 0 if it does
    /// not act.
    pub(super) fn stands_for(&self, every: usize) -> usize {
        let Count { done, of, .. } = self.0.get();
        if !done.is_multiple_of(every) {
            return 0;
        }
        every.min(of.saturating_sub(done)).max(1)
    }

    /// Whether this is one of the first `n` steps of a run from noise to data.
    pub(super) fn is_among_the_first(&self, n: usize) -> bool {
        let count = self.0.get();
        count.falls && count.done < n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_that_act_stand_for_all_of_a_run() {
        for (of, every) in [(7, 3), (8, 4), (1, 5), (6, 1), (3, 2)] {
            let steps = Steps::default();
            assert_eq!(steps.stands_for(every), 1, "outside a run");
            for run in [Progress::Sampling { steps: of }, Progress::Inverting { steps: of }] {
                steps.follow(run);
                let mut total = 0;
                for done in 0..of {
                    let now = steps.stands_for(every);
                    assert_eq!(now > 0, done % every == 0);
                    total += now;
                    steps.follow(Progress::Step);
                    steps.follow(Progress::Raised);
                }
                assert_eq!(total, of);
            }
        }
    }
}
