//! `vd data`: synthetic clips, reports on a folder of videos, and preparation of clips for
//! training.

mod prepare;
mod stats;

use std::fmt::Write;

use anyhow::Result;
use indicatif::MultiProgress;
use vd_data::{BadFile, Captions, DigitsConfig, FireworksConfig, Report, Source, Spread};

use crate::args::{DataArgs, DataCommand, GeneratorName, InspectDataArgs, SynthArgs};
use crate::folder;
use crate::output::{Outcome, bytes, count, plural};

/// Bad files shown in the text; JSON contains all of them.
const BAD_SHOWN: usize = 20;

pub(crate) fn run(args: DataArgs, bars: &MultiProgress) -> Result<Outcome> {
    match args.command {
        DataCommand::Synth(args) => synth(&args),
        DataCommand::Inspect(args) => inspect(&args),
        DataCommand::Prepare(args) => prepare::prepare(&args, bars),
        DataCommand::Preview(args) => stats::preview(&args),
        DataCommand::Stats(args) => stats::stats(&args),
        DataCommand::Verify(args) => prepare::verify(&args),
    }
}

fn synth(args: &SynthArgs) -> Result<Outcome> {
    let source = match args.what {
        GeneratorName::Fireworks => Source::Fireworks(FireworksConfig::default()),
        GeneratorName::Digits => Source::Digits(DigitsConfig::default()),
    };
    folder::make_new(&args.out)?;
    let size = [args.size.h as usize, args.size.w as usize];
    let (num, frames) = (args.num as usize, args.frames as usize);
    let written = vd_data::write_synthetic(&source, args.seed, num, frames, size, &args.out)?;
    let text = format!(
        "wrote {} of {} at {} with captions to {} ({})",
        plural(written.clips, "clip"),
        plural(frames, "frame"),
        args.size,
        written.out.display(),
        bytes(written.bytes)
    );
    Outcome::new(&written, text)
}

/// The source of captions that a flag names.
fn captions(from: &str) -> Captions {
    match from {
        "beside" => Captions::Beside,
        "folders" => Captions::Folders,
        table => Captions::Table(table.into()),
    }
}

fn inspect(args: &InspectDataArgs) -> Result<Outcome> {
    let arrays = args.arrays.options();
    let captions = captions(&args.captions);
    let report = vd_data::inspect_arrays(&args.folder, &captions, &arrays, args.arrays.invalid)?;
    Ok(Outcome::new(&report, describe(&report)?)?.with_success(report.clips > 0))
}

fn describe(report: &Report) -> Result<String> {
    let mut out = String::new();
    writeln!(
        out,
        "{}: {}, {}",
        report.folder.display(),
        plural(report.clips, "readable video"),
        bytes(report.bytes)
    )?;
    if let Some(frames) = report.frames {
        writeln!(out, "  frames    {}", spread(frames))?;
    }
    if let Some(fps) = report.fps {
        writeln!(out, "  rate      {} frames per second", spread(fps))?;
    }
    let sizes: Vec<_> = report
        .sizes
        .iter()
        .take(5)
        .map(|size| format!("{}x{} ({})", size.h, size.w, count(size.clips as u64)))
        .collect();
    if !sizes.is_empty() {
        let more = report.sizes.len().saturating_sub(sizes.len());
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        writeln!(out, "  size      {}{rest} (HxW)", sizes.join(", "))?;
        writeln!(out, "  colour    {} in colour, {} grey", report.colour_clips, report.grey_clips)?;
        writeln!(out, "  captions  {}", count(report.captions as u64))?;
    }
    for array in &report.arrays {
        writeln!(out, "  array     {array}")?;
    }
    for caption in &report.caption_examples {
        writeln!(out, "            \"{caption}\"")?;
    }
    for column in &report.columns {
        writeln!(out, "  column    {column}")?;
    }
    if report.clips == 0 {
        writeln!(
            out,
            "  looked for GIF, APNG, WebP, MP4, MOV, WebM, MKV, AVI, folders of PNG, JPEG or WebP frames, \
             and arrays (.npy, .npz, .safetensors)"
        )?;
    }
    if !report.other_files.is_empty() {
        let kinds: Vec<_> =
            report.other_files.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        writeln!(out, "  ignored   {}", kinds.join(", "))?;
    }
    bad_files(&mut out, &report.bad_files)?;
    Ok(out)
}

/// The first files that cannot be read, each with its reason.
fn bad_files(out: &mut String, bad: &[BadFile]) -> Result<()> {
    if bad.is_empty() {
        return Ok(());
    }
    writeln!(out, "  {} cannot be read:", plural(bad.len(), "file"))?;
    let lines = BadFile::lines(bad);
    for line in lines.iter().take(BAD_SHOWN) {
        // a name may contain control characters, which must not break lines or control the terminal
        writeln!(out, "    {}", line.replace(char::is_control, "?"))?;
    }
    if lines.len() > BAD_SHOWN {
        writeln!(out, "    and {} more (--json lists all)", lines.len() - BAD_SHOWN)?;
    }
    Ok(())
}

/// `8`, or `8 to 24, median 16`.
fn spread(of: Spread) -> String {
    if of.min == of.max {
        return short(of.min);
    }
    format!("{} to {}, median {}", short(of.min), short(of.max), short(of.median))
}

/// At most two decimals, none if they are 0.
fn short(x: f64) -> String {
    let text = format!("{x:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
