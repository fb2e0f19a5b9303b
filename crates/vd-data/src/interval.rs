//! Confidence intervals of measured proportions.

use serde::{Deserialize, Serialize};

/// A proportion with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// The number of successes.
    pub successes: usize,
    /// The number of trials.
    pub n: usize,
    /// successes / n, 0 where n is 0.
    pub share: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
}

/// The proportion of successes among `n` trials with Wilson's 95 % interval.
///
/// # Range
/// `successes` above `n` count as `n`; without trials the interval is all of [0, 1].
/// # Reference
/// Wilson 1927, JASA 22, 209; z = 1.959964.
pub fn wilson(successes: usize, n: usize) -> Share {
    const Z: f64 = 1.959_963_984_540_054;
    let successes = successes.min(n);
    if n == 0 {
        return Share { successes, n, share: 0.0, low: 0.0, high: 1.0 };
    }
    let trials = n as f64;
    let share = successes as f64 / trials;
    let spread = 1.0 + Z * Z / trials;
    let middle = (share + Z * Z / (2.0 * trials)) / spread;
    let half =
        Z * (share * (1.0 - share) / trials + Z * Z / (4.0 * trials * trials)).sqrt() / spread;
    Share {
        successes,
        n,
        share,
        // at 0 and 1 the formula is exact only up to rounding
        low: if successes == 0 { 0.0 } else { middle - half },
        high: if successes == n { 1.0 } else { middle + half },
    }
}

/// The difference of two proportions, with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The first proportion minus the second.
    pub difference: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
}

/// One proportion minus `other`, for independent trials, with Newcombe's 95 % interval.
///
/// # Reference
/// Newcombe 1998, Statistics in Medicine 17, 873, method 10: two Wilson intervals.
pub fn newcombe(one: Share, other: Share) -> Difference {
    let difference = one.share - other.share;
    Difference {
        difference,
        low: difference - (one.share - one.low).hypot(other.high - other.share),
        high: difference + (one.high - one.share).hypot(other.share - other.low),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_has_its_known_values() {
        // at x = n the lower end is n / (n + z^2); the others were computed in another language
        for (x, n, low, high) in [
            (96, 96, 0.961_524_3, 1.0),
            (93, 96, 0.912_113_2, 0.989_315_9),
            (5, 10, 0.236_593_1, 0.763_406_9),
        ] {
            let share = wilson(x, n);
            assert!((share.low - low).abs() < 2e-6, "{share:?}");
            assert!((share.high - high).abs() < 2e-6, "{share:?}");
        }
        assert_eq!((wilson(0, 0).low, wilson(0, 0).high), (0.0, 1.0));
    }

    #[test]
    fn the_interval_of_a_difference_has_its_published_values() {
        // Newcombe's own examples (a), (b), (c) and (g) of method 10, to the four digits that he
        // gives
        for (a, m, b, n, low, high) in [
            (56, 70, 48, 80, 0.0524, 0.3339),
            (9, 10, 3, 10, 0.1705, 0.8090),
            (6, 7, 2, 7, 0.0582, 0.8062),
            (10, 10, 0, 20, 0.6791, 1.0),
        ] {
            let got = newcombe(wilson(a, m), wilson(b, n));
            assert!((got.low - low).abs() < 1e-4 && (got.high - high).abs() < 1e-4, "{got:?}");
        }
    }
}
