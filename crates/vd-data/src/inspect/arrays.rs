//! Statistics of the arrays in a folder.

use std::collections::BTreeMap;

use super::report::ArrayReport;
use super::{About, Found, bytes};
use crate::Result;
use crate::decode::{self, Media, Probe};

/// The maximum number of values in memory at once.
const AT_ONCE: usize = 1 << 22;

/// The statistics of one array.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Numbers {
    dtype: &'static str,
    /// The minimum and the maximum of each channel; minimum above maximum if all values are
    /// missing.
    ranges: Vec<[f64; 2]>,
    values: u64,
    missing: u64,
}

/// Reads an array to its end.
pub(super) fn look(media: &Media, of: decode::Numbers, invalid: Option<f64>) -> Result<About> {
    let Probe { f, h, w, fps } = media.probe()?;
    let c = of.channels;
    let mut numbers = Numbers {
        dtype: of.dtype.name(),
        ranges: vec![[f64::INFINITY, f64::NEG_INFINITY]; c],
        values: 0,
        missing: 0,
    };
    let step = (AT_ONCE / (h * w * c)).max(1);
    for first in (0..f).step_by(step) {
        let wanted: Vec<usize> = (first..f.min(first + step)).collect();
        let mut clip = media.decode_floats(c, Some(&wanted), fps)?;
        if let Some(invalid) = invalid {
            clip.forget(invalid);
        }
        numbers.values += clip.values.len() as u64;
        for pixel in clip.values.chunks_exact(c) {
            for (value, range) in pixel.iter().zip(&mut numbers.ranges) {
                let x = f64::from(*value);
                match x.is_finite() {
                    true => *range = [range[0].min(x), range[1].max(x)],
                    false => numbers.missing += 1,
                }
            }
        }
    }
    let bytes = bytes(media)?;
    Ok(About { f, h, w, fps, grey: false, bytes, numbers: Some(numbers) })
}

/// Reports on all arrays, grouped by dtype and number of channels.
pub(super) fn report(sound: &[Found<'_>]) -> Vec<ArrayReport> {
    let mut kinds = BTreeMap::<(usize, &str), (usize, Numbers)>::new();
    for numbers in sound.iter().filter_map(|(_, about)| about.numbers.as_ref()) {
        let key = (numbers.ranges.len(), numbers.dtype);
        let Some((clips, all)) = kinds.get_mut(&key) else {
            kinds.insert(key, (1, numbers.clone()));
            continue;
        };
        *clips += 1;
        all.values += numbers.values;
        all.missing += numbers.missing;
        for (all, one) in all.ranges.iter_mut().zip(&numbers.ranges) {
            *all = [all[0].min(one[0]), all[1].max(one[1])];
        }
    }
    let report = |((channels, dtype), (clips, numbers)): ((usize, &str), (usize, Numbers))| {
        let range = |range: [f64; 2]| (range[0] <= range[1]).then_some(range);
        ArrayReport {
            dtype: dtype.to_owned(),
            channels,
            clips,
            ranges: numbers.ranges.into_iter().map(range).collect(),
            missing: numbers.missing as f64 / numbers.values.max(1) as f64,
        }
    };
    kinds.into_iter().map(report).collect()
}
