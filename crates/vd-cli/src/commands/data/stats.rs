//! `vd data stats` and `vd data preview`.

use std::fmt::Write;

use anyhow::{Result, bail};
use serde_json::json;
use vd_data::{ArrayStats, Captions, Channel, Histogram, Source, Stats};

use super::{bad_files, captions, short, spread};
use crate::args::{PreviewArgs, StatsArgs};
use crate::output::{Outcome, Usage, bytes, count, plural};

/// Array channels shown in the text; JSON contains all of them.
const CHANNELS: usize = 8;
/// The longest bar, in letters.
const BAR: usize = 40;
/// Class folders shown in the text; JSON contains all of them.
const FOLDERS_SHOWN: usize = 12;

/// Prepared clips, or a folder with captions from the source that the flag names.
fn source(path: &std::path::Path, from: &str) -> Result<Source> {
    let captions = captions(from);
    if !vd_data::is_shards(path) {
        return Ok(Source::Folder { path: path.to_path_buf(), captions });
    }
    if captions != Captions::Beside {
        let message = "--captions: prepared clips have their own captions; omit it";
        return Err(Usage(message.to_owned()).into());
    }
    Ok(Source::Shards { path: path.to_path_buf() })
}

pub(super) fn preview(args: &PreviewArgs) -> Result<Outcome> {
    if !args.out.extension().is_some_and(|end| end.eq_ignore_ascii_case("png")) {
        let message =
            format!("--out {}: expected a file name that ends in .png", args.out.display());
        return Err(Usage(message).into());
    }
    let Some(folder) = source(&args.source, &args.captions)?.list()? else {
        bail!("{}: not a folder", args.source.display());
    };
    let (num, frames) = (args.num as usize, args.frames as usize);
    if folder.entries().is_empty() {
        bail!("{}: no readable video", args.source.display());
    }
    let drawn = vd_data::write_preview(&args.out, &folder, num, frames)?;
    let (out, clips) = (args.out.display(), plural(drawn.clips, "clip"));
    let mut text = format!("{out}: {} of {clips}\n", count(drawn.shown as u64));
    bad_files(&mut text, &drawn.bad_files)?;
    let report = json!({ "out": args.out, "shown": drawn.shown, "clips": drawn.clips,
        "bad_files": drawn.bad_files });
    Outcome::new(&report, text)
}

pub(super) fn stats(args: &StatsArgs) -> Result<Outcome> {
    let source = source(&args.source, &args.captions)?;
    let found = vd_data::stats(&source, args.sample as usize)?;
    Ok(Outcome::new(&found, describe(&found)?)?.with_success(found.clips > 0))
}

fn describe(stats: &Stats) -> Result<String> {
    let mut out = String::new();
    let what = if stats.shards { "prepared clip" } else { "readable video" };
    let (folder, clips) = (stats.folder.display(), plural(stats.clips, what));
    let (frames, size) = (count(stats.frames), bytes(stats.bytes));
    let length = duration(stats.seconds);
    writeln!(out, "{folder}: {clips}, {frames} frames, {length}, {size}")?;
    if let Some(lengths) = stats.lengths {
        writeln!(out, "  frames    {}", spread(lengths))?;
    }
    if let Some(fps) = stats.fps {
        writeln!(out, "  rate      {} frames per second", spread(fps))?;
    }
    let sizes: Vec<_> = stats.sizes.iter().take(5).collect();
    let sizes: Vec<_> = sizes
        .iter()
        .map(|size| format!("{}x{} ({})", size.h, size.w, count(size.clips as u64)))
        .collect();
    if !sizes.is_empty() {
        let more = stats.sizes.len() - sizes.len();
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        writeln!(out, "  size      {}{rest}", sizes.join(", "))?;
        let share = 100.0 * stats.captions as f64 / stats.clips.max(1) as f64;
        let (some, kinds) = (count(stats.captions as u64), count(stats.different_captions as u64));
        writeln!(out, "  captions  {some} ({share:.0} %), {kinds} different")?;
    }
    if !stats.folders.is_empty() {
        let named = stats.folders.iter().take(FOLDERS_SHOWN);
        let named: Vec<_> = named.map(|(name, n)| format!("{} ({n})", plain(name))).collect();
        let more = stats.folders.len() - named.len();
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        writeln!(out, "  folders   {}{rest}", named.join(", "))?;
    }
    for column in &stats.columns {
        writeln!(out, "  column    {column}")?;
    }
    if let Some(lengths) = stats.length_histogram.as_ref().filter(|found| found.counts.len() > 1) {
        writeln!(out, "\n  frames per clip")?;
        bars(&mut out, lengths)?;
    }
    pixels(&mut out, stats)?;
    for found in &stats.arrays {
        arrays(&mut out, found)?;
    }
    bad_files(&mut out, &stats.bad_files)?;
    Ok(out)
}

fn pixels(out: &mut String, stats: &Stats) -> Result<()> {
    let Some(pixels) = &stats.pixels else { return Ok(()) };
    writeln!(
        out,
        "\n  pixels of {} in {}{}",
        plural(pixels.frames, "frame"),
        plural(pixels.clips, "clip"),
        if pixels.grey_clips > 0 {
            format!(", {} of them grey", pixels.grey_clips)
        } else {
            String::new()
        }
    )?;
    let grey = pixels.grey_clips == pixels.clips;
    let channels = if grey { &pixels.channels[..1] } else { &pixels.channels[..] };
    for channel in channels {
        let name = if grey { "grey" } else { &channel.name };
        let (low, high) = (short(channel.min), short(channel.max));
        let (mean, std) = (channel.mean, channel.std);
        writeln!(out, "  {name:<6}{low} to {high}, mean {mean:.1}, deviation {std:.1}")?;
        bars(out, &channel.histogram)?;
    }
    Ok(())
}

fn arrays(out: &mut String, found: &ArrayStats) -> Result<()> {
    let (frames, clips) = (plural(found.frames, "frame"), plural(found.clips, "clip"));
    let (kind, missing) = (&found.dtype, 100.0 * found.missing);
    writeln!(out, "\n  numbers ({kind}) of {frames} in {clips}, {missing:.2} % missing")?;
    for Channel { name, min, max, mean, std, histogram } in found.channels.iter().take(CHANNELS) {
        let [min, max, mean, std] = [min, max, mean, std].map(|x| six_digits(*x));
        writeln!(out, "  {name}: {min} to {max}, mean {mean}, deviation {std}")?;
        histogram_lines(out, histogram, |low, _| six_digits(low))?;
    }
    if let Some(more) = found.channels.len().checked_sub(CHANNELS).filter(|more| *more > 0) {
        writeln!(out, "  and {} (--json lists all)", plural(more, "more channel"))?;
    }
    Ok(())
}

/// Intervals of integers.
fn bars(out: &mut String, found: &Histogram) -> Result<()> {
    histogram_lines(out, found, |low, width| match width > 1.0 {
        true => format!("{low}-{}", low + width - 1.0),
        false => format!("{low}"),
    })
}

/// A line for each interval: its description by `named`, from its start and width, a bar, and the
/// count.
fn histogram_lines(
    out: &mut String,
    found: &Histogram,
    named: impl Fn(f64, f64) -> String,
) -> Result<()> {
    let most = found.counts.iter().copied().max().unwrap_or(0).max(1);
    for (k, n) in found.counts.iter().enumerate() {
        let range = named(found.low + k as f64 * found.width, found.width);
        // a count above 0 must not look like 0
        let length = (*n as f64 / most as f64 * BAR as f64).round() as usize;
        let bar = "#".repeat(length.max(usize::from(*n > 0)));
        writeln!(out, "    {range:>9}  {bar:<BAR$}  {}", count(*n))?;
    }
    Ok(())
}

/// A number of any magnitude with six significant digits.
fn six_digits(x: f64) -> String {
    let places = 5 - x.abs().log10().floor().clamp(-99.0, 99.0) as i32;
    match places {
        _ if x == 0.0 => "0".to_owned(),
        0..=10 => {
            let text = format!("{x:.*}", places as usize);
            let trimmed = text.trim_end_matches('0').trim_end_matches('.');
            if places > 0 { trimmed.to_owned() } else { text }
        }
        _ => format!("{x:.5e}"),
    }
}

/// `8.4 s`, `3 min 20 s`, `2 h 5 min`.
fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        _ if seconds < 59.95 => format!("{seconds:.1} s"),
        0..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", count(whole / 3600), whole % 3600 / 60),
    }
}

/// A name without characters that would break a line or control a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_for_people() {
        let found = [8.44, 59.9, 200.0, 7500.0].map(duration);
        assert_eq!(found, ["8.4 s", "59.9 s", "3 min 20 s", "2 h 5 min"]);
    }

    #[test]
    fn numbers_of_any_size_have_six_digits() {
        let found =
            [0.0, 1.5, -273.15, 123456.7, 1234567.0, 0.000_123_456_789, -3e-9].map(six_digits);
        let expected = ["0", "1.5", "-273.15", "123457", "1.23457e6", "0.000123457", "-3.00000e-9"];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_there_is_seen_in_a_bar() {
        let mut out = String::new();
        let found = Histogram { low: 0.0, width: 16.0, counts: vec![4000, 1, 0, 2000] };
        assert!(bars(&mut out, &found).is_ok());
        let lengths = |line: &str| line.matches('#').count();
        assert_eq!(out.lines().map(lengths).collect::<Vec<_>>(), [40, 1, 0, 20], "{out}");
    }
}
