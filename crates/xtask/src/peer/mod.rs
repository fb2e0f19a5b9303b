//! `bench-peer`: this project's network and that of video-diffusion-pytorch with the same weights,
//! checked against each other and then timed in turns.

mod environment;
mod json;
mod machine;
mod measure;
mod options;
mod report;
mod summary;
mod table;
mod worker;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;

#[cfg(test)]
pub(crate) use environment::PEER;
pub(crate) use options::Options;

use crate::downstream;
use crate::error::{Result, at, failed};
use crate::find::VERSION;
use crate::paths;
use crate::setup;
use crate::stage;
use machine::Machine;
use options::Shape;
use report::Report;
use summary::Outcome;
use worker::{Setting, Side};

const SCRIPT: &str = "crates/xtask/peer/bench.py";

pub(crate) fn run(options: &Options) -> Result<()> {
    let load = machine::load();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.unwrap_or(cores);
    let mut sides = vec![Side::Ours, Side::Eager, Side::Tuned];
    if options.compile {
        environment::compiler()?;
        sides.push(Side::Compile);
    }
    let work = downstream::target_dir()?.join("bench-peer");
    let _alone = alone(&work)?;
    let python = environment::python(options.python.as_deref())?;
    let ours = build()?;
    let setting = |shape: Shape| {
        let (ours, python) = (ours.clone(), python.clone());
        let script = paths::root()?.join(SCRIPT);
        let folder = work.join(shape.name);
        let Options { train, avx2, precision, .. } = *options;
        Ok(Setting { shape, train, avx2, precision, threads, ours, python, script, folder })
    };
    let mut report = Report::new(options, threads, Machine { cpu: machine::cpu(), cores, load });
    for run in 1..=options.runs {
        for shape in &options.shapes {
            eprintln!("xtask: {}, run {run} of {}", shape.name, options.runs);
            let (outcome, isa) = one(&setting(*shape)?, &sides, options.pairs)?;
            report.isa = isa;
            report.outcomes.push(Outcome { run, ..outcome });
            // Written each time, so that a run that is stopped keeps its results.
            report.write()?;
        }
    }
    report.print()
}

/// Ensures that no other measurement runs, which would distort the times. The system releases the
/// lock however a run ends.
fn alone(work: &Path) -> Result<File> {
    fs::create_dir_all(work).map_err(at("create", work))?;
    let folder = File::open(work).map_err(at("open", work))?;
    match folder.try_lock() {
        Err(TryLockError::WouldBlock) => {
            failed("another bench-peer is running: wait until it ends")
        }
        // A file system without locks (some network ones).
        Err(TryLockError::Error(_)) | Ok(()) => Ok(folder),
    }
}

/// Builds this project's side, and returns its path.
fn build() -> Result<PathBuf> {
    let libtorch = setup::ensure()?;
    let example = ["build", "--release", "-p", "vd-unet3d", "--example", "bench_peer"];
    stage::run("build this project's side", stage::cargo(&libtorch)?.args(example))?;
    Ok(downstream::target_dir()?.join("release/examples/bench_peer"))
}

/// Creates the weights for one shape, checks the sides, and times them.
fn one(setting: &Setting, sides: &[Side], pairs: usize) -> Result<(Outcome, String)> {
    let folder = &setting.folder;
    fs::create_dir_all(folder).map_err(at("create", folder))?;
    let line = worker::draw(setting)?;
    let flops = versions(&line)?;
    let checked = measure::check(setting, sides)?;
    let measured = measure::time(setting, &checked, pairs, flops)?;
    // Weights and gradients of the larger shapes take hundreds of megabytes.
    fs::remove_dir_all(folder).map_err(at("remove", folder))?;
    Ok(measured)
}

/// `2.11.0+cu130 0.7.0 19300000000`: torch, the package and the operations of a forward pass.
fn versions(line: &str) -> Result<f64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [torch, peer, flops] = words[..] else {
        return failed(format!("the package's side begins with `{line}`"));
    };
    if torch.split('+').next() != Some(VERSION) || peer != environment::PEER {
        return failed(format!(
            "this Python has torch {torch} and video-diffusion-pytorch {peer}, but {VERSION} and \
             {} are needed: give another with `--python`, or omit it",
            environment::PEER
        ));
    }
    flops.parse().or_else(|_| failed(format!("`{flops}` is not a number of operations")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_of_the_package_is_refused() {
        assert_eq!(versions("2.11.0+cu130 0.7.0 19300000000"), Ok(1.93e10));
        for line in ["2.10.0 0.7.0 1", "2.11.0 0.6.3 1", "2.11.0 0.7.0", "2.11.0 0.7.0 many"] {
            assert!(versions(line).is_err(), "{line}");
        }
    }
}
