//! The report on a folder, for programs and for people.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::folder::BadFile;

/// The result of [`crate::inspect`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The folder.
    pub folder: PathBuf,
    /// The number of videos that can be read to their end.
    pub clips: usize,
    /// Their frame counts; `None` if there is no clip.
    pub frames: Option<Spread>,
    /// Their rates in frames per second; `None` if there is no clip.
    pub fps: Option<Spread>,
    /// Their sizes, the most frequent first.
    pub sizes: Vec<SizeCount>,
    /// The number of clips whose pixels are all grey (channels = 1 loses nothing).
    pub grey_clips: usize,
    /// The number of clips in colour.
    pub colour_clips: usize,
    /// The arrays, grouped by dtype and number of channels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arrays: Vec<ArrayReport>,
    /// The number of clips that have a caption.
    pub captions: usize,
    /// Some example captions.
    pub caption_examples: Vec<String>,
    /// The columns of their table, by name.
    #[serde(default)]
    pub columns: Vec<Column>,
    /// The files that cannot be read, with their reasons.
    pub bad_files: Vec<BadFile>,
    /// The number of files of each kind that is not read, by file extension.
    pub other_files: BTreeMap<String, usize>,
    /// The size of all videos on disk in bytes.
    pub bytes: u64,
}

/// Arrays with the same dtype and number of channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArrayReport {
    /// Their dtype.
    pub dtype: String,
    /// Their number of channels.
    pub channels: usize,
    /// The number of clips in them.
    pub clips: usize,
    /// The minimum and the maximum of each channel; `None` if all values are missing.
    pub ranges: Vec<Option<[f64; 2]>>,
    /// The fraction of values that are missing.
    pub missing: f64,
}

/// One line about the arrays; at most eight channels are listed.
impl fmt::Display for ArrayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMED: usize = 8;
        let Self { dtype, channels, clips, ranges, missing } = self;
        let range = |range: &Option<[f64; 2]>| match range {
            Some([low, high]) => format!("{low} to {high}"),
            None => "nothing".to_owned(),
        };
        let named: Vec<_> = ranges.iter().take(NAMED).map(range).collect();
        let more = if *channels > NAMED { ", ..." } else { "" };
        write!(
            f,
            "{dtype}, {channels} channels ({clips} clips): {}{more}; {:.2} % missing",
            named.join(", "),
            100.0 * missing
        )
    }
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The number of clips that have a value.
    pub clips: usize,
    /// Mean and standard deviation, if every value is a number.
    pub mean_std: Option<[f64; 2]>,
    /// The number of distinct values, if none is a list.
    pub classes: Option<usize>,
}

/// One line about the column.
impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} clips): ", self.name, self.clips)?;
        match (self.mean_std, self.classes) {
            (Some([mean, std]), _) => write!(f, "numbers, mean {mean:.6}, std {std:.6}"),
            (None, Some(classes)) => write!(f, "text, {classes} different"),
            (None, None) => f.write_str("lists"),
        }
    }
}

/// The minimum, median and maximum of some numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The minimum.
    pub min: f64,
    /// The median; for an even count, the lower of the two middle numbers.
    pub median: f64,
    /// The maximum.
    pub max: f64,
}

/// The number of videos of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeCount {
    /// Height in pixels.
    pub h: usize,
    /// Width in pixels.
    pub w: usize,
    /// The number of videos.
    pub clips: usize,
}

/// Lines for people to read; at most ten sizes and ten bad files are listed.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMED: usize = 10;
        let mib = self.bytes as f64 / f64::from(1 << 20);
        writeln!(f, "{}: {} clips, {mib:.1} MiB", self.folder.display(), self.clips)?;
        for (name, spread) in [("frames", self.frames), ("fps", self.fps)] {
            if let Some(Spread { min, median, max }) = spread {
                let [min, median, max] = [min, median, max].map(tidy);
                writeln!(f, "{name}: {min} to {max}, median {median}")?;
            }
        }
        if self.clips > 0 {
            let size = |size: &SizeCount| format!("{} x {} ({})", size.h, size.w, size.clips);
            let named: Vec<String> = self.sizes.iter().take(NAMED).map(size).collect();
            let more = self.sizes.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            writeln!(f, "height x width (clips): {}{more}", named.join(", "))?;
            writeln!(f, "colour: {}, grey: {}", self.colour_clips, self.grey_clips)?;
            writeln!(f, "captions: {} of {}", self.captions, self.clips)?;
        }
        for array in &self.arrays {
            writeln!(f, "array {array}")?;
        }
        for caption in &self.caption_examples {
            writeln!(f, "  {caption}")?;
        }
        for column in &self.columns {
            writeln!(f, "column {column}")?;
        }
        writeln!(f, "files that cannot be read: {}", self.bad_files.len())?;
        for line in BadFile::lines(&self.bad_files).iter().take(NAMED) {
            writeln!(f, "  {line}")?;
        }
        if !self.other_files.is_empty() {
            let other = self.other_files.iter().map(|(kind, n)| format!("{n} {kind}"));
            let other: Vec<String> = other.collect();
            writeln!(f, "files of other kinds, ignored: {}", other.join(", "))?;
        }
        Ok(())
    }
}

/// At most two decimals, none where they are 0.
fn tidy(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
