//! The results of the command: a file with all numbers, and a table.

use std::fs;
use std::path::{Path, PathBuf};

use super::environment::PEER;
use super::json::Json;
use super::machine::{self, Machine};
use super::options::Options;
use super::summary::{Outcome, Overall};
use super::table;
use crate::error::{Result, at};
use crate::find::VERSION;
use crate::paths;

const DTYPE: &str = "f32";

/// The measurements up to now, and their conditions.
pub(super) struct Report<'a> {
    options: &'a Options,
    threads: usize,
    machine: Machine,
    /// The instruction set of this project's kernels.
    pub(super) isa: String,
    pub(super) outcomes: Vec<Outcome>,
}

impl<'a> Report<'a> {
    pub(super) fn new(options: &'a Options, threads: usize, machine: Machine) -> Self {
        Report { options, threads, machine, isa: String::new(), outcomes: Vec::new() }
    }

    /// Rewrites both files.
    pub(super) fn write(&self) -> Result<()> {
        let folder = paths::root()?.join("docs/benchmarks");
        fs::create_dir_all(&folder).map_err(at("create", &folder))?;
        for (extension, text) in [("json", self.json_text()), ("md", self.table())] {
            let file = self.file(&folder, extension);
            fs::write(&file, text).map_err(at("write", &file))?;
        }
        let file = self.file(&folder, "json");
        eprintln!("xtask: wrote {} and, as a table, the .md next to it", file.display());
        Ok(())
    }

    /// Prints the requested output.
    pub(super) fn print(&self) -> Result<()> {
        print!("{}", if self.options.json { self.json_text() } else { self.table() });
        Ok(())
    }

    fn file(&self, folder: &Path, extension: &str) -> PathBuf {
        let name = self.options.name.clone().unwrap_or_else(|| self.name());
        folder.join(format!("cpu-{name}.{extension}"))
    }

    fn name(&self) -> String {
        let Options { train, precision, .. } = self.options;
        let passes = if *train { " train" } else { "" };
        let precision = if precision.name == DTYPE { "" } else { precision.name };
        let (cpu, isa) = (&self.machine.cpu, &self.isa);
        machine::slug(&format!("{cpu} {isa} {} threads{passes} {precision}", self.threads))
    }

    fn passes(&self) -> &'static str {
        if self.options.train {
            "forward and backward of an l2 loss, no optimiser"
        } else {
            "forward"
        }
    }

    /// The maximum measured, since the limit is a property of the machine, not of a shape.
    fn peak(&self) -> f64 {
        self.outcomes.iter().map(|outcome| outcome.peak).fold(0.0, f64::max)
    }

    fn is_idle(&self) -> bool {
        self.outcomes.iter().all(|outcome| outcome.busy.is_idle())
    }

    /// Whether everything requested was measured.
    fn is_complete(&self) -> bool {
        self.outcomes.len() == self.options.runs * self.options.shapes.len()
    }

    fn json_text(&self) -> String {
        format!("{}\n", self.json())
    }

    fn json(&self) -> Json {
        let Machine { cpu, cores, load } = &self.machine;
        let machine = Json::Object(vec![
            ("cpu", Json::text(cpu)),
            ("cores", Json::count(*cores)),
            ("load_at_start", Json::Number(*load)),
            ("idle", Json::Bool(self.is_idle())),
        ]);
        let list = |items: Vec<Json>| Json::List(items);
        Json::Object(vec![
            ("machine", machine),
            ("isa", Json::text(&self.isa)),
            ("fma_peak_flops", Json::Number(self.peak())),
            ("threads", Json::count(self.threads)),
            ("dtype", Json::text(DTYPE)),
            ("precision_of_ours", Json::text(self.options.precision.name)),
            ("passes", Json::text(self.passes())),
            ("torch", Json::text(VERSION)),
            ("video_diffusion_pytorch", Json::text(PEER)),
            ("runs", Json::count(self.options.runs)),
            ("complete", Json::Bool(self.is_complete())),
            ("over_runs", list(Overall::of(&self.outcomes).iter().map(Overall::json).collect())),
            ("shapes", list(self.outcomes.iter().map(Outcome::json).collect())),
        ])
    }

    fn table(&self) -> String {
        let Machine { cpu, cores, load } = &self.machine;
        let idle = if self.is_idle() { "idle all the time" } else { "NOT idle all the time" };
        let complete = if self.is_complete() { "" } else { " More was asked for: stopped." };
        let mut text = format!(
            "{cpu}, {cores} cores, {}, FMA peak {:.0} GFLOP/s; {} threads, {DTYPE} (ours: {}), {}; \
             torch {VERSION}, video-diffusion-pytorch {PEER}. The machine was {idle} (load average \
             at the start: {load:.2}).{complete}\n\n",
            self.isa,
            self.peak() / 1e9,
            self.threads,
            self.options.precision.name,
            self.passes(),
        );
        text += &table::turns(&self.outcomes);
        if self.options.runs > 1 {
            text += &format!("\n{}", table::runs(&Overall::of(&self.outcomes)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::summary::tests::outcome;

    #[test]
    fn a_report_names_its_machine_whether_it_was_idle_and_whether_it_is_whole() {
        let words = "--precision exact --train --runs 2 --shapes b1f5s32";
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let Ok(options) = Options::parse(&words) else { panic!("these are flags") };
        let machine = Machine { cpu: "Some CPU".to_owned(), cores: 2, load: 0.25 };
        let mut report = Report::new(&options, 2, machine);
        report.isa = "avx2".to_owned();
        report.outcomes = vec![outcome(true)];
        assert_eq!(report.name(), "some-cpu-avx2-2-threads-train-exact");
        let (json, table) = (report.json().to_string(), report.table());
        assert!(json.contains("\"complete\": false") && table.contains("stopped"), "{table}");
        report.outcomes.push(Outcome { run: 2, ..outcome(true) });
        report.outcomes[1].busy.others = 0.4;
        let (json, table) = (report.json().to_string(), report.table());
        assert!(table.contains("NOT idle all the time"), "{table}");
        assert!(table.contains("NOT idle (others used 0.40 cores)"), "{table}");
        assert!(json.contains("\"load_at_start\": 0.25"), "{json}");
        assert!(json.contains("\"complete\": true"), "{json}");
    }
}
