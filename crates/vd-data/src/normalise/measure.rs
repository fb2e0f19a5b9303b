//! Measures the statistics of a data set before training.

use super::map::transformed;
use super::tally::Tally;
use super::{ChannelRule, Normalise, Scaling};
use crate::loader::Dataset;
use crate::{Error, FloatClip, Result};

/// The maximum number of clips that are read; in a larger set, this many are evenly spaced.
const MOST_CLIPS: usize = 4096;
/// How many clips of an endless source are read.
const OF_ENDLESS: usize = 64;
/// The maximum number of values that are read in total.
const MOST_VALUES: usize = 1 << 27;

/// Fills in the statistics that a config leaves out, in one pass over the data.
///
/// The choice of clips and frames depends on their indices alone, so that the same data give the
/// same statistics.
pub(crate) fn measure(dataset: &Dataset, config: &Normalise) -> Result<Normalise> {
    let data = dataset.config();
    let mut rules = config.rules(data.channels)?;
    let clips = dataset.clips().unwrap_or(OF_ENDLESS);
    let looked = clips.min(MOST_CLIPS);
    let each = MOST_VALUES / looked.max(1);
    let mut tallies: Vec<Tally> = rules.iter().map(|_| Tally::default()).collect();
    let (mut read, mut frames) = (0, 0);
    for k in 0..looked {
        let index = k * clips / looked;
        match dataset.whole(index, each) {
            Ok(clip) => {
                add(&mut tallies, &rules, &clip)
                    .map_err(|error| dataset.of_file(index as u64, error))?;
                (read, frames) = (read + 1, frames + clip.f);
            }
            // training counts and reports it when it is loaded
            Err(error) if error.is_bad_file() => tracing::warn!("not measured: {error}"),
            Err(error) => return Err(error),
        }
    }
    for (channel, (rule, tally)) in rules.iter_mut().zip(&tallies).enumerate() {
        if rule.statistics.is_none() {
            rule.statistics = tally.statistics(rule);
        }
        if rule.extremes.is_none() && rule.kind != Scaling::MinMax {
            rule.extremes = tally.extremes();
        }
        let values = tally.count + tally.missing;
        let missing = 100.0 * tally.missing as f64 / values.max(1) as f64;
        tracing::info!(
            "data.normalise: channel {channel}: statistics = {:?}, of {} values ({missing:.2} % \
             missing) in {frames} frames of {read} of {clips} clips",
            rule.statistics.unwrap_or_default(),
            values,
        );
        if tally.count == 0 {
            let expected = format!("a value in channel {channel} of the data");
            return Err(Error::config("data.normalise", expected, "none in the sampled frames"));
        }
    }
    Ok(Normalise::each(rules))
}

fn add(tallies: &mut [Tally], rules: &[ChannelRule], clip: &FloatClip) -> Result<()> {
    for pixel in clip.values.chunks_exact(clip.c) {
        for ((value, rule), tally) in pixel.iter().zip(rules).zip(&mut *tallies) {
            if !value.is_finite() {
                tally.missing += 1;
                continue;
            }
            let x = transformed(rule.transform, rule.offset(), f64::from(*value));
            if !x.is_finite() {
                let expected =
                    format!("values above {}, for data.normalise.transform", -rule.offset());
                return Err(Error::clip(expected, format!("{value}")));
            }
            tally.add(x);
        }
    }
    Ok(())
}
