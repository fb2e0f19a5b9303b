//! The report on a folder, for programs and for people.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::folder::BadFile;

/// What [`crate::inspect`] found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The folder.
    pub folder: PathBuf,
    /// How many videos can be read to their end.
    pub clips: usize,
    /// Their frame counts; `None` without a clip.
    pub frames: Option<Spread>,
    /// Their rates in frames per second; `None` without a clip.
    pub fps: Option<Spread>,
    /// Their sizes, the most frequent first.
    pub sizes: Vec<SizeCount>,
    /// How many are grey in all pixels (channels = 1 loses nothing).
    pub grey_clips: usize,
    /// How many are in colour.
    pub colour_clips: usize,
    /// The arrays, those of one kind and number of channels together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arrays: Vec<ArrayReport>,
    /// How many have a caption.
    pub captions: usize,
    /// A few of the captions.
    pub caption_examples: Vec<String>,
    /// The columns of their table, by name.
    #[serde(default)]
    pub columns: Vec<Column>,
    /// The files that cannot be read, with their reasons.
    pub bad_files: Vec<BadFile>,
    /// How many files there are of kinds that are not read, by the ending of their names.
    pub other_files: BTreeMap<String, usize>,
    /// Bytes of all videos on disk.
    pub bytes: u64,
}

/// Arrays of one kind of numbers and as many channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArrayReport {
    /// What their numbers are.
    pub dtype: String,
    /// Their channels.
    pub channels: usize,
    /// How many clips there are of them.
    pub clips: usize,
    /// The least and the largest number of each channel; `None` where all are missing.
    pub ranges: Vec<Option<[f64; 2]>>,
    /// The share of values that are missing.
    pub missing: f64,
}

/// What the arrays hold, on a line; at most eight channels are named.
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
    /// How many clips have a value.
    pub clips: usize,
    /// Mean and standard deviation, where every value is a number.
    pub mean_std: Option<[f64; 2]>,
    /// How many different values there are, where none is a list.
    pub classes: Option<usize>,
}

/// What the column holds, on a line.
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

/// The least, the middle and the largest of some numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle one; of an even number of them, the lower of the two.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

/// How many videos have a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeCount {
    /// Height in pixels.
    pub h: usize,
    /// Width in pixels.
    pub w: usize,
    /// How many.
    pub clips: usize,
}

/// Lines for people; at most ten sizes and ten bad files are named.
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
