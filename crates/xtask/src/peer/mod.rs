//! `bench-peer`: this project's network and that of video-diffusion-pytorch with the same weights,
//! checked against each other and then timed in turns.

mod environment;
mod json;
mod machine;
mod measure;
mod options;
mod summary;
mod worker;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;

pub(crate) use options::Options;

use crate::downstream;
use crate::error::{Result, at, failed};
use crate::find::VERSION;
use crate::paths;
use crate::setup;
use crate::stage;
use json::Json;
use machine::Machine;
use measure::Spent;
use options::Shape;
use summary::Outcome;
use worker::{Setting, Side};

const SCRIPT: &str = "crates/xtask/peer/bench.py";
const DTYPE: &str = "f32";

pub(crate) fn run(options: &Options) -> Result<()> {
    let at_start = machine::load();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.unwrap_or(cores);
    let work = downstream::target_dir()?.join("bench-peer");
    let _alone = alone(&work)?;
    let python = environment::python(options.python.as_deref())?;
    let ours = build()?;
    let mut sides = vec![Side::Ours, Side::Eager, Side::Tuned];
    if options.compile {
        sides.push(Side::Compile);
    }
    let setting = |shape: Shape| {
        let (ours, python) = (ours.clone(), python.clone());
        let script = paths::root()?.join(SCRIPT);
        let folder = work.join(shape.name);
        let Options { train, avx2, precision, .. } = *options;
        Ok(Setting { shape, train, avx2, precision, threads, ours, python, script, folder })
    };
    let (mut outcomes, mut spent) = (Vec::new(), Spent::default());
    let before = machine::load();
    let mut isa = String::new();
    for shape in &options.shapes {
        let (outcome, more, found) = one(&setting(*shape)?, &sides, options.pairs)?;
        outcomes.push(outcome);
        spent.add(more);
        isa = found;
    }
    let machine = Machine {
        cpu: machine::cpu(),
        cores,
        load: [at_start, before, machine::load()],
        others: spent.others / spent.seconds,
        waiting: spent.waiting / spent.seconds,
    };
    let Options { train, precision, .. } = *options;
    let report = Report { machine, isa, threads, train, precision: precision.name, outcomes };
    report.give(options)
}

/// Two at once would spoil each other's times. The system frees the lock however a run ends.
fn alone(work: &Path) -> Result<File> {
    fs::create_dir_all(work).map_err(at("create", work))?;
    let folder = File::open(work).map_err(at("open", work))?;
    match folder.try_lock() {
        Err(TryLockError::WouldBlock) => failed("another bench-peer is running: wait for its end"),
        // A file system without locks (some network ones).
        Err(TryLockError::Error(_)) | Ok(()) => Ok(folder),
    }
}

/// Builds this project's side; returns where it lies.
fn build() -> Result<PathBuf> {
    let libtorch = setup::ensure()?;
    let example = ["build", "--release", "-p", "vd-unet3d", "--example", "bench_peer"];
    stage::run("build this project's side", stage::cargo(&libtorch)?.args(example))?;
    Ok(downstream::target_dir()?.join("release/examples/bench_peer"))
}

/// Weights, checks and turns of one shape.
fn one(setting: &Setting, sides: &[Side], pairs: usize) -> Result<(Outcome, Spent, String)> {
    let folder = &setting.folder;
    fs::create_dir_all(folder).map_err(at("create", folder))?;
    let line = worker::draw(setting)?;
    let flops = versions(&line)?;
    let checked = measure::check(setting, sides)?;
    let measured = measure::time(setting, &checked, pairs, flops)?;
    // Weights and gradients of the larger shapes are hundreds of megabytes.
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
            "this Python has torch {torch} and video-diffusion-pytorch {peer}, and {VERSION} and \
             {} are needed: name another with `--python`, or none",
            environment::PEER
        ));
    }
    flops.parse().or_else(|_| failed(format!("`{flops}` is no number of operations")))
}

/// What the command says at its end.
struct Report {
    machine: Machine,
    isa: String,
    threads: usize,
    train: bool,
    precision: &'static str,
    outcomes: Vec<Outcome>,
}

impl Report {
    fn give(&self, options: &Options) -> Result<()> {
        let name = options.name.clone().unwrap_or_else(|| self.name());
        let folder = paths::root()?.join("docs/benchmarks");
        fs::create_dir_all(&folder).map_err(at("create", &folder))?;
        let file = folder.join(format!("cpu-{name}.json"));
        let json = format!("{}\n", self.json());
        fs::write(&file, &json).map_err(at("write", &file))?;
        if options.json {
            print!("{json}");
        } else {
            print!("{}", self.table());
        }
        eprintln!("xtask: written to {}", file.display());
        Ok(())
    }

    fn name(&self) -> String {
        let passes = if self.train { " train" } else { "" };
        let (cpu, isa) = (&self.machine.cpu, &self.isa);
        let precision = if self.precision == DTYPE { "" } else { self.precision };
        machine::slug(&format!("{cpu} {isa} {} threads{passes} {precision}", self.threads))
    }

    fn passes(&self) -> &'static str {
        if self.train { "forward and backward of an l2 loss, no optimiser" } else { "forward" }
    }

    /// The best that was measured: the limit is one of the machine, not of a shape.
    fn peak(&self) -> f64 {
        self.outcomes.iter().map(|outcome| outcome.peak).fold(0.0, f64::max)
    }

    fn json(&self) -> Json {
        let outcomes = self.outcomes.iter().map(Outcome::json).collect();
        Json::Object(vec![
            ("machine", self.machine.json()),
            ("isa", Json::text(&self.isa)),
            ("fma_peak_flops", Json::Number(self.peak())),
            ("threads", Json::count(self.threads)),
            ("dtype", Json::text(DTYPE)),
            ("precision_of_ours", Json::text(self.precision)),
            ("passes", Json::text(self.passes())),
            ("torch", Json::text(VERSION)),
            ("video_diffusion_pytorch", Json::text(environment::PEER)),
            ("shapes", Json::List(outcomes)),
        ])
    }

    fn table(&self) -> String {
        let Machine { cpu, cores, load, others, waiting } = &self.machine;
        let [start, before, after] = load;
        let idle = if self.machine.is_idle() { "idle" } else { "NOT idle" };
        let mut text = format!(
            "{cpu}, {cores} cores, {}, FMA peak {:.0} GFLOP/s; {} threads, {DTYPE} (ours: {}), {}; \
             torch {VERSION}, video-diffusion-pytorch {}.\n",
            self.isa,
            self.peak() / 1e9,
            self.threads,
            self.precision,
            self.passes(),
            environment::PEER,
        );
        text += &format!(
            "The machine was {idle}: others used {others:.2} cores, sides that waited \
             {waiting:.3}; load average {start:.2} at the start, {before:.2} before the turns, \
             {after:.2} after.\n\n",
        );
        text += "| shape | side | median ms | least ms | times ours: median (least to most) | \
                 of FMA peak | peak MiB (loaded) | error |\n|---|---|---|---|---|---|---|---|\n";
        self.outcomes.iter().for_each(|outcome| text += &outcome.rows());
        text
    }
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

    #[test]
    fn a_report_names_its_machine_and_whether_it_was_idle() {
        let load = [0.0, 0.25, 1.5];
        let (cpu, others, waiting) = ("Some CPU".to_owned(), 0.4, 0.001);
        let machine = Machine { cpu, cores: 2, load, others, waiting };
        let (isa, precision, outcomes) = ("avx2".to_owned(), "exact", Vec::new());
        let report = Report { machine, isa, threads: 2, train: true, precision, outcomes };
        assert_eq!(report.name(), "some-cpu-avx2-2-threads-train-exact");
        let table = report.table();
        assert!(table.contains("NOT idle: others used 0.40 cores"), "{table}");
        let json = report.json().to_string();
        assert!(json.contains("\"load_at_start_before_after\": [0, 0.25, 1.5]"), "{json}");
        assert!(json.contains("\"idle\": false"), "{json}");
    }
}
