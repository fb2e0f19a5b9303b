//! Statistics of a data set: lengths, rates, sizes and pixel values.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::report::{Column, SizeCount, Spread};
use super::stats_numbers::{ArrayStats, numbers};
use super::{bytes, columns, for_all, sizes, spread};
use crate::config::Source;
use crate::decode::{Media, Probe};
use crate::folder::{BadFile, Entry};
use crate::{Clip, Error, Result};

/// Bars in a histogram of lengths.
const BARS: usize = 10;
/// Bars in a histogram of samples: each covers 16 of 256 values.
const LEVELS: usize = 16;
/// Frames per clip whose pixels are read.
pub(super) const FRAMES: usize = 4;
/// Pixels per frame that are read.
pub(super) const PIXELS: usize = 1 << 16;

/// The result of [`stats`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// The folder.
    pub folder: PathBuf,
    /// Whether it is a folder of shards.
    pub shards: bool,
    /// The number of clips whose structure can be read.
    pub clips: usize,
    /// The number of frames in all clips.
    pub frames: u64,
    /// The total duration of all clips.
    pub seconds: f64,
    /// Frames per clip; `None` if there is no clip.
    pub lengths: Option<Spread>,
    /// The distribution of frames per clip.
    pub length_histogram: Option<Histogram>,
    /// Frames per second; `None` if there is no clip.
    pub fps: Option<Spread>,
    /// The frame sizes, the most frequent first.
    pub sizes: Vec<SizeCount>,
    /// The number of clips that have a caption.
    pub captions: usize,
    /// The number of distinct captions.
    pub different_captions: usize,
    /// The number of clips in each class folder, by its name.
    pub folders: BTreeMap<String, usize>,
    /// The columns of a table, by name.
    pub columns: Vec<Column>,
    /// The size of all clips on disk in bytes.
    pub bytes: u64,
    /// Statistics of pixels from a sample of the clips; `None` if no clip of the sample can be
    /// decoded.
    pub pixels: Option<Pixels>,
    /// Statistics of the arrays in the same sample.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arrays: Vec<ArrayStats>,
    /// Files that cannot be read, with their reasons.
    pub bad_files: Vec<BadFile>,
}

/// Statistics of a sample of pixels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pixels {
    /// The number of clips in the sample, evenly spread over the data set.
    pub clips: usize,
    /// The number of frames in the sample.
    pub frames: usize,
    /// The number of pixels in the sample.
    pub pixels: u64,
    /// The number of clips that are grey in all sampled pixels.
    pub grey_clips: usize,
    /// Red, green and blue.
    pub channels: Vec<Channel>,
}

/// Statistics of one channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// The minimum.
    pub min: f64,
    /// The maximum.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// The standard deviation.
    pub std: f64,
    /// The distribution of the values.
    pub histogram: Histogram,
}

/// Counts of values in intervals of equal width.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// The start of the first interval.
    pub low: f64,
    /// The width of each interval.
    pub width: f64,
    /// The number of values in each interval.
    pub counts: Vec<u64>,
}

/// Reads the structure of every clip, and the pixels or numbers of at most `sample` of them: four
/// frames of each, and 65536 pixels of each frame.
///
/// # Errors
/// When `source` is a generator, or its folder cannot be listed.
pub fn stats(source: &Source, sample: usize) -> Result<Stats> {
    let listed = source.list()?.ok_or_else(|| {
        Error::config("source", "a folder of videos or of prepared clips", "a generator")
    })?;
    let found = for_all(listed.entries(), &|media| Ok((media.probe()?, bytes(media)?)));
    let mut bad_files = listed.bad_files().to_vec();
    let mut sound: Vec<(&Entry, Probe)> = Vec::new();
    let mut total = 0;
    for (entry, found) in listed.entries().iter().zip(found) {
        match found {
            Ok((probe, bytes)) => {
                total += bytes;
                sound.push((entry, probe));
            }
            Err(error) => bad_files.push(bad(entry, &error)),
        }
    }
    let (arrays, pictures): (Vec<Entry>, Vec<Entry>) = spread_over(sound.len(), sample)
        .map(|index| sound[index].0.clone())
        .partition(|entry| entry.media.numbers().is_some());
    let pixels = pixels(&pictures, &mut bad_files);
    let arrays = numbers(&arrays, &mut bad_files);
    let captions: Vec<&String> =
        sound.iter().filter_map(|(entry, _)| entry.caption.as_ref()).collect();
    let different: std::collections::BTreeSet<_> = captions.iter().collect();
    let mut folders = BTreeMap::new();
    for name in sound.iter().filter_map(|(entry, _)| entry.folder()) {
        *folders.entry(name.to_owned()).or_default() += 1;
    }
    Ok(Stats {
        folder: listed.root().to_path_buf(),
        shards: matches!(source, Source::Shards { .. }),
        clips: sound.len(),
        frames: sound.iter().map(|(_, probe)| probe.f as u64).sum(),
        seconds: sound.iter().map(|(_, probe)| probe.f as f64 / probe.fps).sum(),
        lengths: spread(sound.iter().map(|(_, probe)| probe.f as f64)),
        length_histogram: lengths(sound.iter().map(|(_, probe)| probe.f)),
        fps: spread(sound.iter().map(|(_, probe)| probe.fps)),
        sizes: sizes(sound.iter().map(|(_, probe)| (probe.h, probe.w))),
        captions: captions.len(),
        different_captions: different.len(),
        folders,
        columns: columns::columns(sound.iter().filter_map(|(entry, _)| entry.row.as_deref())),
        bytes: total,
        pixels,
        arrays,
        bad_files,
    })
}

pub(super) fn bad(entry: &Entry, error: &Error) -> BadFile {
    BadFile { path: entry.media.path().to_path_buf(), reason: error.to_string() }
}

/// Ten intervals from the shortest clip to the longest; fewer if there are fewer lengths.
fn lengths(values: impl Iterator<Item = usize>) -> Option<Histogram> {
    let values: Vec<usize> = values.collect();
    let (low, high) = (*values.iter().min()?, *values.iter().max()?);
    let width = (high - low + 1).div_ceil(BARS);
    let mut counts = vec![0; (high - low + 1).div_ceil(width)];
    for value in values {
        counts[(value - low) / width] += 1;
    }
    Some(Histogram { low: low as f64, width: width as f64, counts })
}

/// Reads the pixels of clips, one clip per thread at a time.
fn pixels(entries: &[Entry], bad_files: &mut Vec<BadFile>) -> Option<Pixels> {
    let found = for_all(entries, &counted);
    let mut sum = Counts::default();
    let mut about = Pixels { clips: 0, frames: 0, pixels: 0, grey_clips: 0, channels: Vec::new() };
    for (entry, found) in entries.iter().zip(found) {
        match found {
            Ok((frames, counts)) => {
                about.clips += 1;
                about.frames += frames;
                about.grey_clips += usize::from(counts.grey);
                sum.add(&counts);
            }
            Err(error) => bad_files.push(bad(entry, &error)),
        }
    }
    about.pixels = sum.values[0].iter().sum();
    let names = ["red", "green", "blue"];
    about.channels = names.iter().zip(&sum.values).filter_map(|(n, v)| channel(n, v)).collect();
    (about.clips > 0).then_some(about)
}

/// At most `most` of 0 .. n, evenly spaced.
pub(crate) fn spread_over(n: usize, most: usize) -> impl Iterator<Item = usize> {
    let shown = n.min(most);
    (0..shown).map(move |k| k * n / shown.max(1))
}

/// How often each value occurs in each channel.
#[derive(Debug, Clone)]
struct Counts {
    values: [Vec<u64>; 3],
    grey: bool,
}

impl Default for Counts {
    fn default() -> Self {
        Self { values: [(); 3].map(|()| vec![0; 256]), grey: true }
    }
}

impl Counts {
    fn add(&mut self, other: &Self) {
        for (sum, more) in self.values.iter_mut().zip(&other.values) {
            for (sum, more) in sum.iter_mut().zip(more) {
                *sum += more;
            }
        }
    }
}

/// Counts the pixels of a clip: some pixels of some frames.
fn counted(media: &Media) -> Result<(usize, Counts)> {
    let probe = media.probe()?;
    let wanted: Vec<usize> = spread_over(probe.f, FRAMES).collect();
    let clip = media.decode_frames(3, &wanted, probe.fps)?;
    let mut counts = Counts::default();
    count_clip(&clip, &mut counts);
    Ok((clip.f, counts))
}

fn count_clip(clip: &Clip, counts: &mut Counts) {
    for index in 0..clip.f {
        let frame = clip.frame(index);
        let pixels = clip.h * clip.w;
        for at in spread_over(pixels, PIXELS) {
            let pixel = &frame[at * clip.c..(at + 1) * clip.c];
            for (channel, values) in counts.values.iter_mut().enumerate() {
                values[usize::from(pixel[channel.min(clip.c - 1)])] += 1;
            }
            counts.grey &= pixel.iter().all(|value| *value == pixel[0]);
        }
    }
}

/// The statistics of a channel from its counts.
fn channel(name: &str, counts: &[u64]) -> Option<Channel> {
    let n = counts.iter().sum::<u64>() as f64;
    let values = || (0u32..).map(f64::from).zip(counts.iter().map(|count| *count as f64));
    let there = || values().filter(|(_, count)| *count > 0.0).map(|(value, _)| value);
    let mean = values().map(|(value, count)| value * count).sum::<f64>() / n;
    let variance = values().map(|(value, count)| (value - mean).powi(2) * count).sum::<f64>() / n;
    let width = counts.len() / LEVELS;
    let bars = counts.chunks(width).map(|some| some.iter().sum()).collect();
    Some(Channel {
        name: name.to_owned(),
        min: there().next()?,
        max: there().last()?,
        mean,
        std: variance.sqrt(),
        histogram: Histogram { low: 0.0, width: width as f64, counts: bars },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_give_range_mean_and_deviation() {
        let mut counts = vec![0; 256];
        (counts[10], counts[20], counts[255]) = (3, 3, 2);
        let found = channel("red", &counts);
        // (3 * 10 + 3 * 20 + 2 * 255) / 8 = 75, and the mean square around it 65^2 * 3 + 55^2 * 3 + 180^2 * 2 over 8
        let expected = (75.0, ((4225.0 * 3.0 + 3025.0 * 3.0 + 32400.0 * 2.0) / 8.0f64).sqrt());
        let found = found.map(|c| (c.mean, c.std, c.min, c.max, c.histogram.counts));
        let bars = [&[3, 3][..], &[0; 13], &[2]].concat();
        assert_eq!(found, Some((expected.0, expected.1, 10.0, 255.0, bars)));
        assert_eq!(channel("red", &[0; 256]), None);
    }

    #[test]
    fn lengths_fall_into_ten_intervals_at_most() {
        let found = lengths([3, 3, 5].into_iter());
        assert_eq!(found, Some(Histogram { low: 3.0, width: 1.0, counts: vec![2, 0, 1] }));
        let many = lengths(1..=1000).map(|found| (found.width, found.counts));
        assert_eq!(many, Some((100.0, vec![100; 10])));
        assert_eq!(lengths(std::iter::empty()), None);
    }
}
