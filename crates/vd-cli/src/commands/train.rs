//! `vd train`: a training run with progress bar, log and signal handling.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Error, Result};
use indicatif::{MultiProgress, ProgressBar};
use serde::Serialize;
use vd_train::{Event, Resume, RunConfig, StepReport, Summary};

use crate::args::TrainArgs;
use crate::model::{device_name, warn_without_kernels};
use crate::output::{Outcome, Usage, count, plural};
use crate::{progress, signals};

/// The interval between log lines if there is no bar.
const LOG_EVERY: Duration = Duration::from_secs(20);

#[derive(Debug, Serialize)]
struct Report {
    out: PathBuf,
    /// The newest checkpoint.
    checkpoint: Option<PathBuf>,
    from_step: u64,
    step: u64,
    steps: u64,
    /// Whether a signal ended the run before its last step.
    stopped: bool,
    /// Of the last step, like the next two.
    loss: Option<f64>,
    lr: Option<f64>,
    grad_norm: Option<f64>,
    skipped_files: Option<usize>,
    seconds: f64,
    parameters: usize,
    device: String,
    threads: usize,
    /// What `vd sample` is to be given for a model of texts.
    #[serde(skip)]
    prompt: &'static str,
    /// The ending of a file that holds a clip.
    #[serde(skip)]
    ending: &'static str,
}

pub(crate) fn run(args: &TrainArgs, bars: &MultiProgress) -> Result<Outcome> {
    let config =
        RunConfig::load(&args.config, &args.set).map_err(|e| blame(e, &args.config, &args.set))?;
    let stop = signals::stop_flag()?;
    let resume = if args.resume { Resume::Newest } else { Resume::No };
    let mut watch = Watch::new(bars, args.resume);
    let summary = vd_train::train(&config, resume, &stop, &mut |event| watch.see(event))?;
    let report = watch.finish(&config, summary);
    let text = describe(&report);
    Outcome::new(&report, text)
}

/// A bad --set is a usage error, a bad config file is not.
pub(super) fn blame(error: vd_train::Error, config: &Path, set: &[String]) -> Error {
    let alone = || RunConfig::load(config, &[]).is_ok();
    if matches!(error, vd_train::Error::Override { .. }) || !set.is_empty() && alone() {
        return Usage(error.to_string()).into();
    }
    error.into()
}

/// Shows a run on stderr.
struct Watch<'a> {
    bars: &'a MultiProgress,
    resume: bool,
    bar: ProgressBar,
    logged: Option<Instant>,
    steps: u64,
    parameters: usize,
    device: String,
    threads: usize,
}

impl<'a> Watch<'a> {
    fn new(bars: &'a MultiProgress, resume: bool) -> Self {
        let bar = ProgressBar::hidden();
        let (device, threads) = (String::new(), 0);
        Watch { bars, resume, bar, logged: None, steps: 0, parameters: 0, device, threads }
    }

    fn see(&mut self, event: &Event<'_>) {
        match event {
            Event::Started { step, steps, parameters, device, threads } => {
                (self.steps, self.parameters) = (*steps, *parameters);
                (self.device, self.threads) = (device_name(*device), *threads);
                self.start(*step);
                warn_without_kernels(*device);
            }
            Event::Step(report) => self.step(report),
            Event::Saved { path, .. } => tracing::info!("saved {}", path.display()),
            Event::Preview { path, .. } => tracing::info!("preview {}", path.display()),
            _ => {}
        }
    }

    fn start(&mut self, from: u64) {
        let (parameters, steps) =
            (count(self.parameters as u64), plural(self.steps as usize, "step"));
        let (device, threads) = (&self.device, plural(self.threads, "thread"));
        tracing::info!("{parameters} parameters, {steps}, on {device}, {threads}");
        match (self.resume, from) {
            (true, 0) => tracing::warn!(
                "--resume: no checkpoint to go on from in train.out: beginning at step 0"
            ),
            (true, from) if from >= self.steps => {
                tracing::info!("step {from} is done already; train.steps = {}", self.steps);
            }
            (true, from) => tracing::info!("resuming from step {from}"),
            (false, _) => {}
        }
        self.bar = progress::bar(self.bars, "step", self.steps, from);
    }

    fn step(&mut self, report: &StepReport) {
        let StepReport { step, loss, samples_per_second: rate, .. } = report;
        self.bar.set_position(*step);
        self.bar.set_message(format!("loss {loss:.4}, {rate:.1} clips/s"));
        let due = self.logged.is_none_or(|at| at.elapsed() >= LOG_EVERY);
        if self.bar.is_hidden() && (due || *step == self.steps) {
            tracing::info!("step {step} of {}: loss {loss:.4}, {rate:.1} clips/s", self.steps);
            self.logged = Some(Instant::now());
        }
    }

    fn finish(self, config: &RunConfig, summary: Summary) -> Report {
        self.bar.finish_and_clear();
        let last = summary.last;
        Report {
            out: config.train.out.clone(),
            checkpoint: summary.checkpoint,
            from_step: summary.from_step,
            step: summary.step,
            steps: self.steps,
            stopped: summary.stopped,
            loss: last.map(|last| last.loss),
            lr: last.map(|last| last.lr),
            grad_norm: last.map(|last| last.grad_norm),
            skipped_files: last.map(|last| last.skipped_files),
            seconds: summary.seconds,
            parameters: self.parameters,
            device: self.device,
            prompt: match config.text {
                Some(_) => " --prompt \"<one of the captions>\" --cfg-scale 2",
                None => "",
            },
            ending: match (&config.data.normalise, config.data.channels) {
                (None, 1 | 3) => "gif",
                _ => "npy",
            },
            threads: self.threads,
        }
    }
}

fn describe(report: &Report) -> String {
    let Report { step, steps, from_step, seconds, .. } = report;
    let done = step - from_step;
    let loss = report.loss.map_or(String::new(), |loss| format!(", loss {loss:.4}"));
    let mut text = format!(
        "step {step} of {steps}{loss} ({} in {seconds:.1} s)",
        plural(done as usize, "step")
    );
    match &report.checkpoint {
        Some(path) => text += &format!("\ncheckpoint: {}", path.display()),
        None => text += "\nno checkpoint: no step was completed",
    }
    if report.stopped {
        text += "\nstopped by a signal; continue with --resume";
    } else {
        let out = report.out.display();
        let (prompt, ending) = (report.prompt, report.ending);
        text += &format!("\nnext: vd sample {out}{prompt} --out clip.{ending}");
    }
    text
}
