//! The factor on the loss that keeps gradients in the range of fp16.

use serde::{Deserialize, Serialize};

/// The scale of the first step, 2^16.
const START: f64 = 65_536.0;
/// The factor on the scale after [`INTERVAL`] steps without an overflow.
const GROWTH: f64 = 2.0;
/// The factor after a step with an overflow.
const BACKOFF: f64 = 0.5;
/// Steps without an overflow before the scale grows.
const INTERVAL: u32 = 2000;
/// Below this, the scale is not the cause of overflows.
const LEAST: f64 = 1.0;

/// A scale that falls when gradients overflow, and rises again after a long time without overflow.
/// All values are powers of two, so that scaling is exact.
///
/// # Reference
/// Micikevicius et al. 2018, section 3.2, arXiv:1710.03740.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    /// The factor on the loss of the next step.
    pub scale: f64,
    /// Steps since it last changed.
    pub good_steps: u32,
    /// The number of skipped steps up to now.
    pub skipped: u64,
}

impl Default for LossScale {
    fn default() -> Self {
        LossScale { scale: START, good_steps: 0, skipped: 0 }
    }
}

impl LossScale {
    /// Call after a step whose gradients are finite.
    pub(crate) fn went_well(&mut self) {
        self.good_steps += 1;
        if self.good_steps >= INTERVAL {
            self.scale *= GROWTH;
            self.good_steps = 0;
        }
    }

    /// Call after a step whose gradients are not finite; returns whether a smaller scale may help.
    pub(crate) fn overflowed(&mut self) -> bool {
        if self.scale <= LEAST {
            return false;
        }
        self.scale *= BACKOFF;
        self.good_steps = 0;
        self.skipped += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_halves_at_an_overflow_and_doubles_after_long_without_one() {
        let mut scale = LossScale::default();
        assert!(scale.overflowed());
        assert_eq!(scale, LossScale { scale: START / 2.0, good_steps: 0, skipped: 1 });
        for _ in 1..INTERVAL {
            scale.went_well();
        }
        assert_eq!((scale.scale, scale.good_steps), (START / 2.0, INTERVAL - 1));
        scale.went_well();
        assert_eq!((scale.scale, scale.good_steps), (START, 0));
        // an overflow in between restarts the count
        scale.went_well();
        assert!(scale.overflowed());
        assert_eq!((scale.good_steps, scale.skipped), (0, 2));
    }

    #[test]
    fn a_scale_of_one_helps_no_more() {
        let mut scale = LossScale::default();
        let fell = std::iter::from_fn(|| scale.overflowed().then_some(())).count();
        assert_eq!((fell, scale.scale, scale.skipped), (16, LEAST, 16));
    }
}
