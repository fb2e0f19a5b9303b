//! The past states used by multistep samplers.

use tch::Tensor;

use crate::NoiseLevel;

/// A state that was denoised, and its x0-hat.
#[derive(Debug)]
pub struct Past {
    /// Its noise level.
    pub at: NoiseLevel,
    /// The state.
    pub x: Tensor,
    /// Its x0-hat.
    pub x0: Tensor,
}

impl Past {
    /// Another handle to the same tensors.
    pub(super) fn shallow_clone(&self) -> Past {
        Past { at: self.at, x: self.x.shallow_clone(), x0: self.x0.shallow_clone() }
    }
}

/// The last four states before the current one.
///
/// [`sample`](crate::sample) maintains it; [`push`](History::push) fills it for a sampler whose
/// `step` is called directly, for example in a test.
#[derive(Debug, Default)]
pub struct History {
    /// Newest first.
    states: Vec<Past>,
}

impl History {
    /// Enough for multistep rules of order 4, and for a corrector over three points.
    const LENGTH: usize = 4;

    /// The newest `n` states whose log-SNR is finite, newest first.
    pub fn newest(&self, n: usize) -> impl Iterator<Item = &Past> {
        self.states.iter().filter(|past| past.at.alpha > 0.0).take(n)
    }

    /// Adds a state newer than all before it; only the last four are kept.
    pub fn push(&mut self, past: Past) {
        self.states.truncate(Self::LENGTH - 1);
        self.states.insert(0, past);
    }
}
