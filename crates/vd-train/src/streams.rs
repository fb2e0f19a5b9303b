//! Where the random draws of a run come from.
//!
//! Every draw is keyed by the run's seed, what it is for, the step and the micro-batch: there is
//! no generator whose state would have to be saved.

use vd_tensor_ops::{SeededNoise, derive_seed};

/// What a draw is for.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub(crate) enum Stream {
    /// The weights of step 0.
    Weights = 1,
    /// Times and noise of the loss.
    Loss = 2,
    /// Which samples lose their conditioning.
    Drop = 3,
    /// Which samples are trained as independent images.
    Focus = 4,
    /// The network's dropout.
    Dropout = 5,
    /// Previews: the same at every step.
    Preview = 6,
}

/// A micro-batch of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) seed: u64,
    /// Steps done before.
    pub(crate) step: u64,
    pub(crate) micro: u64,
}

impl Place {
    /// The noise of this micro-batch for a purpose.
    pub(crate) fn noise(self, stream: Stream) -> SeededNoise {
        SeededNoise::new(derive_seed(self.seed, &[stream as u64, self.step, self.micro]), 0)
    }
}

/// The seed of what does not depend on the step.
pub(crate) fn seed_of(seed: u64, stream: Stream) -> u64 {
    derive_seed(seed, &[stream as u64])
}
