//! Random streams that are keyed by their purpose.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The purpose of a stream; a part of its key, so that no two uses share numbers.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub(crate) enum Purpose {
    /// The order of an epoch.
    Order = 1,
    /// Start, crop and flip of one clip.
    Sample = 2,
    /// A generated firework.
    Fireworks = 3,
    /// A generated clip of moving digits.
    Digits = 4,
    /// The words of a generated caption.
    Caption = 5,
    /// The images beside one clip.
    Images = 6,
}

/// A stream that depends only on its key; ChaCha's 256-bit key holds all four numbers unchanged.
#[derive(Debug, Clone)]
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    pub(crate) fn new(purpose: Purpose, seed: u64, epoch: u64, index: u64) -> Self {
        let mut key = [0; 32];
        for (part, number) in key.chunks_exact_mut(8).zip([seed, epoch, index, purpose as u64]) {
            part.copy_from_slice(&number.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// The next child stream of this one, each with its own 256-bit key.
    pub(crate) fn fork(&mut self) -> Self {
        let mut key = [0; 32];
        self.0.fill_bytes(&mut key);
        Self(ChaCha8Rng::from_seed(key))
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform among 0 .. n; n >= 1. The bias of the product is below n / 2^64.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// True with probability `p`.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// A random order of 0 .. n (Fisher and Yates).
    pub(crate) fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for last in (1..n).rev() {
            order.swap(last, self.below(last + 1));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_a_function_of_its_key_alone() {
        let first =
            |purpose, seed, epoch, index| Stream::new(purpose, seed, epoch, index).0.next_u64();
        let base = first(Purpose::Order, 1, 2, 3);
        assert_eq!(base, first(Purpose::Order, 1, 2, 3));
        for other in [
            first(Purpose::Sample, 1, 2, 3),
            first(Purpose::Order, 2, 2, 3),
            first(Purpose::Order, 1, 3, 3),
            first(Purpose::Order, 1, 2, 4),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn numbers_below_n_are_uniform() {
        let mut stream = Stream::new(Purpose::Sample, 5, 0, 0);
        let mut counts = [0usize; 7];
        for _ in 0..70_000 {
            counts[stream.below(7)] += 1;
        }
        // 10,000 expected, standard deviation 93: five of them
        assert!(counts.iter().all(|&n| n.abs_diff(10_000) < 465), "{counts:?}");
    }

    #[test]
    fn a_permutation_holds_every_index_once() {
        let mut order = Stream::new(Purpose::Order, 9, 4, 0).permutation(101);
        assert_ne!(order, (0..101).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..101).collect::<Vec<_>>());
    }
}
