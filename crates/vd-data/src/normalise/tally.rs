//! Deterministic statistics of a stream of numbers, in bounded memory.

use super::{ChannelRule, Scaling};

/// The maximum number of values that are kept for percentiles.
const KEPT: usize = 1 << 20;

/// The running statistics of a channel.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) count: u64,
    pub(super) missing: u64,
    low: f64,
    high: f64,
    mean: f64,
    /// Sum of squared distances from the mean.
    squares: f64,
    /// Every `2^thinned`-th number.
    kept: Vec<f32>,
    thinned: u32,
}

impl Tally {
    /// Adds a number.
    pub(super) fn add(&mut self, x: f64) {
        if self.count == 0 {
            (self.low, self.high) = (x, x);
        }
        if self.count.is_multiple_of(1 << self.thinned) {
            self.keep(x as f32);
        }
        self.count += 1;
        (self.low, self.high) = (self.low.min(x), self.high.max(x));
        let away = x - self.mean;
        self.mean += away / self.count as f64;
        self.squares += away * (x - self.mean);
    }

    /// Keeps a number; when there are too many, every other one is dropped.
    fn keep(&mut self, x: f32) {
        if self.kept.len() == KEPT {
            let mut even = false;
            self.kept.retain(|_| {
                even = !even;
                even
            });
            self.thinned += 1;
            // this one's index is a multiple of the new distance too: 2^20 came before it
        }
        self.kept.push(x);
    }

    /// The statistics that a rule asks for; if all numbers are equal, they map that number to 0.
    pub(super) fn statistics(&self, rule: &ChannelRule) -> Option<[f64; 2]> {
        if self.count == 0 {
            return None;
        }
        let pair = match rule.kind {
            Scaling::None => return None,
            Scaling::MinMax => [self.low, self.high],
            Scaling::Percentile => rule.percentiles().map(|p| self.percentile(p)),
            Scaling::ZScore => {
                let std = (self.squares / self.count as f64).sqrt();
                return Some([self.mean, if std > 0.0 { std } else { 1.0 }]);
            }
        };
        let [low, high] = pair;
        Some(if low < high { pair } else { [low - 1.0, low + 1.0] })
    }

    /// The least and the largest number.
    pub(super) fn extremes(&self) -> Option<[f64; 2]> {
        (self.count > 0).then_some([self.low, self.high])
    }

    /// The percentile, linear between the two nearest numbers that were kept.
    fn percentile(&self, p: f64) -> f64 {
        let mut sorted = self.kept.clone();
        sorted.sort_by(f32::total_cmp);
        let place = p / 100.0 * (sorted.len() - 1) as f64;
        let below = place.floor() as usize;
        let [low, high] = [below, (below + 1).min(sorted.len() - 1)].map(|k| f64::from(sorted[k]));
        low + (high - low) * (place - below as f64)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    fn of(kind: Scaling, numbers: impl Iterator<Item = f64>) -> [f64; 2] {
        let mut tally = Tally::default();
        numbers.for_each(|x| tally.add(x));
        tally.statistics(&ChannelRule::new(kind)).unwrap()
    }

    #[test]
    fn statistics_are_those_of_all_numbers() {
        let numbers = || (0..=1000).map(f64::from);
        assert_eq!(of(Scaling::MinMax, numbers()), [0.0, 1000.0]);
        assert_eq!(of(Scaling::Percentile, numbers()), [10.0, 990.0]);
        let [mean, std] = of(Scaling::ZScore, numbers());
        // the variance of 0 .. n is n (n + 2) / 12
        let expected = (1000.0 * 1002.0 / 12.0f64).sqrt();
        assert!((mean - 500.0).abs() < 1e-9 && (std - expected).abs() < 1e-9);
    }

    #[test]
    fn percentiles_of_many_numbers_are_those_of_every_so_manieth() {
        let mut stream = Stream::new(Purpose::Sample, 7, 0, 0);
        let numbers = (0..3_000_000).map(|_| stream.unit());
        let [low, high] = of(Scaling::Percentile, numbers);
        // of 750,000 kept numbers the share below 1 % is off by 0.0001; five times that
        assert!((low - 0.01).abs() < 6e-4 && (high - 0.99).abs() < 6e-4, "{low} {high}");
    }

    #[test]
    fn numbers_that_are_all_one_still_have_a_width() {
        for kind in [Scaling::MinMax, Scaling::Percentile] {
            assert_eq!(of(kind, [3.0; 5].into_iter()), [2.0, 4.0]);
        }
        assert_eq!(of(Scaling::ZScore, [3.0; 5].into_iter()), [3.0, 1.0]);
        assert_eq!(Tally::default().statistics(&ChannelRule::new(Scaling::MinMax)), None);
    }
}
