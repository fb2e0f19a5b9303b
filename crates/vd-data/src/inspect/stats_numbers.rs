//! Statistics of the numbers in arrays.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::for_all;
use super::stats::{Channel, FRAMES, Histogram, PIXELS, bad, spread_over};
use crate::folder::{BadFile, Entry};
use crate::{FloatClip, Media, Result};

/// Bars in a histogram.
const BARS: usize = 16;

/// Statistics of a sample of numbers from arrays with the same dtype and number of channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArrayStats {
    /// Their dtype.
    pub dtype: String,
    /// The number of clips in the sample, evenly spread over the data set.
    pub clips: usize,
    /// The number of frames in the sample.
    pub frames: usize,
    /// The number of numbers in the sample.
    pub values: u64,
    /// The fraction of them that is missing.
    pub missing: f64,
    /// The channels, named by their numbers from 0; channels whose values are all missing are left
    /// out.
    pub channels: Vec<Channel>,
}

/// The dtype and the number of channels.
type Kind = (&'static str, usize);

/// The running statistics of a channel.
#[derive(Debug, Clone)]
struct Tally {
    count: u64,
    missing: u64,
    low: f64,
    high: f64,
    mean: f64,
    /// Sum of squared distances from the mean.
    squares: f64,
}

impl Default for Tally {
    fn default() -> Self {
        let (low, high) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { count: 0, missing: 0, low, high, mean: 0.0, squares: 0.0 }
    }
}

impl Tally {
    fn add(&mut self, x: f64) {
        self.count += 1;
        (self.low, self.high) = (self.low.min(x), self.high.max(x));
        let away = x - self.mean;
        self.mean += away / self.count as f64;
        self.squares += away * (x - self.mean);
    }

    /// # Reference
    /// Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances".
    fn merge(&mut self, other: &Self) {
        self.missing += other.missing;
        (self.low, self.high) = (self.low.min(other.low), self.high.max(other.high));
        if other.count == 0 {
            return;
        }
        let (a, b) = (self.count as f64, other.count as f64);
        let away = other.mean - self.mean;
        self.mean += away * b / (a + b);
        self.squares += other.squares + away * away * a * b / (a + b);
        self.count += other.count;
    }

    /// The start of the histogram, and the width of its bars.
    fn bars(&self) -> (f64, f64) {
        let width = (self.high - self.low) / BARS as f64;
        (self.low, if width > 0.0 { width } else { 1.0 })
    }
}

/// Reads the numbers of some clips twice: first for their ranges, then for their histograms.
pub(super) fn numbers(picked: &[Entry], bad_files: &mut Vec<BadFile>) -> Vec<ArrayStats> {
    let mut kinds = BTreeMap::<Kind, (ArrayStats, Vec<Tally>)>::new();
    for (entry, found) in picked.iter().zip(for_all(picked, &tallied)) {
        match found {
            Ok(None) => {}
            Ok(Some((kind, frames, tallies))) => {
                let (stats, all) = kinds.entry(kind).or_insert_with(|| empty(kind));
                stats.clips += 1;
                stats.frames += frames;
                all.iter_mut().zip(&tallies).for_each(|(all, one)| all.merge(one));
            }
            Err(error) => bad_files.push(bad(entry, &error)),
        }
    }
    let ranges: BTreeMap<Kind, Vec<(f64, f64)>> = kinds
        .iter()
        .map(|(kind, (_, tallies))| (*kind, tallies.iter().map(Tally::bars).collect()))
        .collect();
    let mut counts = BTreeMap::<Kind, Vec<Vec<u64>>>::new();
    // unreadable files were reported the first time
    for (kind, found) in
        for_all(picked, &|media| counted(media, &ranges)).into_iter().flatten().flatten()
    {
        let all = counts.entry(kind).or_insert_with(|| vec![vec![0; BARS]; kind.1]);
        for (all, one) in all.iter_mut().flatten().zip(found.into_iter().flatten()) {
            *all += one;
        }
    }
    let mut found = Vec::new();
    for (kind, (mut stats, tallies)) in kinds {
        let missing: u64 = tallies.iter().map(|tally| tally.missing).sum();
        stats.values = missing + tallies.iter().map(|tally| tally.count).sum::<u64>();
        stats.missing = missing as f64 / stats.values.max(1) as f64;
        let counts = counts.remove(&kind).unwrap_or_default();
        let channels = tallies.iter().zip(counts).enumerate();
        stats.channels =
            channels.filter_map(|(k, (tally, counts))| channel(k, tally, counts)).collect();
        found.push(stats);
    }
    found
}

fn empty((dtype, channels): Kind) -> (ArrayStats, Vec<Tally>) {
    let stats = ArrayStats {
        dtype: dtype.to_owned(),
        clips: 0,
        frames: 0,
        values: 0,
        missing: 0.0,
        channels: Vec::new(),
    };
    (stats, vec![Tally::default(); channels])
}

fn channel(k: usize, tally: &Tally, counts: Vec<u64>) -> Option<Channel> {
    let (low, width) = tally.bars();
    (tally.count > 0).then(|| Channel {
        name: format!("channel {k}"),
        min: tally.low,
        max: tally.high,
        mean: tally.mean,
        std: (tally.squares / tally.count as f64).sqrt(),
        histogram: Histogram { low, width, counts },
    })
}

/// Some frames of an array; `None` for pictures.
fn sampled(media: &Media) -> Result<Option<(Kind, FloatClip)>> {
    let Some(numbers) = media.numbers() else { return Ok(None) };
    let probe = media.probe()?;
    let wanted: Vec<usize> = spread_over(probe.f, FRAMES).collect();
    let clip = media.decode_floats(numbers.channels, Some(&wanted), probe.fps)?;
    Ok(Some(((numbers.dtype.name(), numbers.channels), clip)))
}

/// Passes some pixels of each frame to `visit`.
fn for_pixels(clip: &FloatClip, mut visit: impl FnMut(&[f32])) {
    for index in 0..clip.f {
        let frame = clip.frame(index);
        for at in spread_over(clip.h * clip.w, PIXELS) {
            visit(&frame[at * clip.c..(at + 1) * clip.c]);
        }
    }
}

fn tallied(media: &Media) -> Result<Option<(Kind, usize, Vec<Tally>)>> {
    let Some((kind, clip)) = sampled(media)? else { return Ok(None) };
    let mut tallies = vec![Tally::default(); clip.c];
    for_pixels(&clip, |pixel| {
        for (x, tally) in pixel.iter().zip(&mut tallies) {
            match x.is_finite() {
                true => tally.add(f64::from(*x)),
                false => tally.missing += 1,
            }
        }
    });
    Ok(Some((kind, clip.f, tallies)))
}

fn counted(
    media: &Media,
    ranges: &BTreeMap<Kind, Vec<(f64, f64)>>,
) -> Result<Option<(Kind, Vec<Vec<u64>>)>> {
    let Some((kind, clip)) = sampled(media)? else { return Ok(None) };
    let Some(ranges) = ranges.get(&kind) else { return Ok(None) };
    let mut counts = vec![vec![0; BARS]; clip.c];
    for_pixels(&clip, |pixel| {
        for ((x, (low, width)), counts) in pixel.iter().zip(ranges).zip(&mut counts) {
            if x.is_finite() {
                // the largest number belongs to the last bar
                let bar = ((f64::from(*x) - low) / width) as usize;
                counts[bar.min(BARS - 1)] += 1;
            }
        }
    });
    Ok(Some((kind, counts)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tallies_of_parts_make_that_of_the_whole(
            numbers in prop::collection::vec(-1e3f64..1e3, 2..60), cut in 0usize..60,
        ) {
            let tally = |numbers: &[f64]| {
                let mut tally = Tally::default();
                numbers.iter().for_each(|x| tally.add(*x));
                tally
            };
            let (one, two) = numbers.split_at(cut.min(numbers.len()));
            let (mut both, whole) = (tally(one), tally(&numbers));
            both.merge(&tally(two));
            prop_assert_eq!((both.count, both.low, both.high), (whole.count, whole.low, whole.high));
            // 60 sums of at most 1e3 and 1e6: 60 roundings of f64, twice
            prop_assert!((both.mean - whole.mean).abs() < 1e3 * 120.0 * f64::EPSILON);
            prop_assert!((both.squares - whole.squares).abs() < 60e6 * 120.0 * 4.0 * f64::EPSILON);
        }
    }
}
