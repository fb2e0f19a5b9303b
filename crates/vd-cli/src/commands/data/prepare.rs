//! `vd data prepare` and `vd data verify`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use anyhow::Result;
use indicatif::MultiProgress;
use vd_data::{Prepare, Prepared, ShardDtype, StoredArrays};

use super::{bad_files, captions};
use crate::args::{PrepareArgs, StoredType, VerifyArgs};
use crate::output::{Outcome, bytes, count, plural};
use crate::progress::bar;
use crate::signals::stop_flag;

pub(super) fn prepare(args: &PrepareArgs, bars: &MultiProgress) -> Result<Outcome> {
    let base = Prepare::new(&args.source, &args.out);
    let config = Prepare {
        captions: captions(&args.captions),
        size: args.size.map(|size| [size.h as usize, size.w as usize]),
        fps: args.fps,
        stride: args.stride as usize,
        max_frames: args.max_frames.map(|n| n as usize),
        channels: if args.channels == "1" { 1 } else { 3 },
        dtype: args.dtype.map(|dtype| match dtype {
            StoredType::U8 => ShardDtype::U8,
            StoredType::F16 => ShardDtype::F16,
            StoredType::F32 => ShardDtype::F32,
        }),
        arrays: args.arrays.options(),
        invalid: args.arrays.invalid,
        shard_bytes: args.shard_size,
        workers: args.workers.map_or(base.workers, usize::from),
        max_bad: args.max_bad.map(|n| n as usize),
        ..base
    };
    let stop = stop_flag()?;
    let mut shown = None;
    let report = vd_data::prepare(&config, &mut |progress| {
        let (done, clips) = (progress.done as u64, progress.clips as u64);
        let bar = shown.get_or_insert_with(|| bar(bars, "clips", clips, done));
        bar.set_position(done);
        let bad = if progress.bad > 0 { format!(", {} bad", progress.bad) } else { String::new() };
        bar.set_message(format!("{}{bad}", bytes(progress.bytes)));
        match stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    if let Some(bar) = shown {
        bar.finish_and_clear();
    }
    let report = report?;
    let success = report.clips > 0 && !report.stopped;
    Ok(Outcome::new(&report, describe(&report)?)?.with_success(success))
}

fn describe(report: &Prepared) -> Result<String> {
    let mut out = String::new();
    let (place, clips) = (report.out.display(), plural(report.clips, "clip"));
    let held = format!(
        "{clips}, {} frames, {} in {}",
        count(report.frames),
        bytes(report.bytes),
        plural(report.shards, "shard")
    );
    if report.stopped {
        let more = plural(report.new, "clip");
        writeln!(
            out,
            "{place}: stopped after {more}; run the same command again to continue ({held})"
        )?;
    } else if report.unchanged {
        writeln!(out, "{place}: already up to date, nothing to do ({held})")?;
    } else {
        writeln!(out, "{place}: {held}")?;
        writeln!(
            out,
            "  prepared  {}, {} already present",
            plural(report.new, "clip"),
            count(report.kept as u64)
        )?;
        writeln!(out, "  train     [data] source = {{ kind = \"shards\", path = \"{place}\" }}")?;
    }
    for stored in &report.arrays {
        writeln!(out, "  arrays    {}", arrays(stored))?;
    }
    if report.unused > 0 {
        let unused = bytes(report.unused);
        writeln!(out, "  unused    {unused}, of clips that were removed or changed since")?;
    }
    others(&mut out, &report.other_files)?;
    bad_files(&mut out, &report.bad_files)?;
    Ok(out)
}

/// How the numbers of arrays of one dtype were stored.
fn arrays(stored: &StoredArrays) -> String {
    let to = stored.to.numbers();
    let mut said = format!("{} of {} as {to}", plural(stored.clips, "clip"), stored.from);
    if stored.is_wider() {
        said += ", rounded to f32 as when training reads the arrays";
    }
    if stored.rounded > 0 {
        let (some, all) = (count(stored.rounded), count(stored.values));
        let share = 100.0 * stored.furthest;
        said +=
            &format!(", {some} of {all} numbers rounded, by at most {share:.2} % of their value");
    } else if !stored.is_wider() {
        said += ", without rounding";
    }
    said
}

fn others(out: &mut String, kinds: &BTreeMap<String, usize>) -> Result<()> {
    if !kinds.is_empty() {
        let kinds: Vec<_> = kinds.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        writeln!(out, "  ignored   {}", kinds.join(", "))?;
    }
    Ok(())
}

pub(super) fn verify(args: &VerifyArgs) -> Result<Outcome> {
    let found = vd_data::verify_shards(&args.folder)?;
    let mut out = format!(
        "{}: {}, {}, {}\n",
        found.folder.display(),
        plural(found.clips, "clip"),
        bytes(found.bytes),
        if found.damaged.is_empty() { "all match their checksums" } else { "some are damaged" }
    );
    bad_files(&mut out, &found.damaged)?;
    Ok(Outcome::new(&found, out)?.with_success(found.damaged.is_empty()))
}
