//! The random streams of a run.
//!
//! Every draw is keyed by the run's seed, its purpose, the step and the micro-batch, so there is no
//! generator state to save.

use vd_tensor_ops::{SeededNoise, derive_seed};

/// The purpose of a draw.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub(crate) enum Stream {
    /// The initial weights.
    Weights = 1,
    /// Times and noise of the loss.
    Loss = 2,
    /// Which samples lose their text.
    Drop = 3,
    /// Which samples are trained as independent images.
    Focus = 4,
    /// The network's dropout.
    Dropout = 5,
    /// Previews: the same at every step.
    Preview = 6,
    /// Which samples lose a signal.
    SignalDrop = 7,
    /// The box that is hidden in a masked clip.
    SignalBox = 8,
    /// Which images beside a clip lose their text.
    ImageDrop = 9,
    /// Which of these images lose a signal.
    ImageSignalDrop = 10,
    /// The box that is hidden in each of these images.
    ImageSignalBox = 11,
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

    /// Like [`Place::noise`], for one of several things with the same purpose.
    pub(crate) fn named_noise(self, stream: Stream, name: &str) -> SeededNoise {
        let purpose = [stream as u64, number_of(name), self.step, self.micro];
        SeededNoise::new(derive_seed(self.seed, &purpose), 0)
    }
}

/// A number derived from a name that no library version can change: FNV-1a of its bytes.
///
/// # Reference
/// Fowler, Noll, Vo 1991
fn number_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The seed of a draw that does not depend on the step.
pub(crate) fn seed_of(seed: u64, stream: Stream) -> u64 {
    derive_seed(seed, &[stream as u64])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_number_that_the_authors_of_the_hash_publish_for_it() {
        for (name, number) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            assert_eq!(number_of(name), number);
        }
    }
}
