//! `vd inspect`: describes a checkpoint or a preset.

mod preset;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use tch::Device;
use vd_tensor_ops::kernels::Precision;
use vd_text_cond::NullEmbedding;
use vd_train::{CheckpointConfig, Geometry, State, WeightKind};
use vd_unet3d::ops::Params;
use vd_unet3d::{Backbone, SignalConfig};

use crate::args::InspectArgs;
use crate::model::Model;
use crate::output::{Outcome, Usage, bytes, count, plural};

#[derive(Debug, Serialize)]
struct Report {
    checkpoint: PathBuf,
    /// `run` or `converted`.
    kind: &'static str,
    step: Option<u64>,
    /// Trainable values.
    parameters: u64,
    weights: Vec<String>,
    conditional: bool,
    /// `none`, `trained`, `untrained` or `unknown`: the state of what guidance would move away
    /// from.
    null_embedding: &'static str,
    frames: usize,
    size: [usize; 2],
    fps: f64,
    modules: Vec<Module>,
    files: BTreeMap<String, u64>,
    /// The conditioning inputs besides a prompt.
    signals: BTreeMap<String, SignalConfig>,
    config: CheckpointConfig,
    state: Option<State>,
}

/// A part of the network.
#[derive(Debug, Default, Serialize)]
struct Module {
    name: String,
    tensors: u64,
    parameters: u64,
}

pub(crate) fn run(args: &InspectArgs) -> Result<Outcome> {
    match (&args.checkpoint, args.preset) {
        // clap ignores what a flag requires if that conflicts with another flag given
        (Some(_), _) if args.dim.is_some() || args.frames.is_some() || args.size.is_some() => {
            Err(Usage("--dim, --frames and --size require --preset NAME".to_owned()).into())
        }
        (Some(path), _) => checkpoint(path),
        (None, Some(preset)) => preset::run(preset, args),
        (None, None) => Err(Usage("give a CHECKPOINT or --preset NAME".to_owned()).into()),
    }
}

fn checkpoint(path: &Path) -> Result<Outcome> {
    let model = Model::open(path, None, Device::Cpu, Precision::default())?;
    let checkpoint = &model.checkpoint;
    let conditional = model.loaded.network.takes_text();
    let Geometry { frames, size, fps, .. } = checkpoint.geometry();
    let report = Report {
        kind: if checkpoint.config.origin.is_some() { "converted" } else { "run" },
        step: checkpoint.step(),
        parameters: model.loaded.params.count() as u64,
        weights: checkpoint.weights().iter().map(WeightKind::to_string).collect(),
        conditional,
        null_embedding: match (conditional, checkpoint.null()) {
            (false, _) => "none",
            (true, NullEmbedding::Trained) => "trained",
            (true, NullEmbedding::Untrained) => "untrained",
            (true, NullEmbedding::Unknown) => "unknown",
        },
        frames,
        size,
        fps,
        modules: modules(&model.loaded.params),
        files: files(&checkpoint.dir)?,
        signals: model.config().signals.clone(),
        config: checkpoint.config.clone(),
        state: checkpoint.state.clone(),
        checkpoint: checkpoint.dir.clone(),
    };
    Outcome::new(&report, describe(&report)?)
}

/// Parameters by part: each level separately, otherwise by the first part of the name.
fn modules(params: &Params) -> Vec<Module> {
    let mut modules: Vec<Module> = Vec::new();
    for (name, tensor) in params.trainable() {
        let parts: Vec<_> = name.split('.').collect();
        let depth = if matches!(parts[0], "downs" | "ups") { 2 } else { 1 };
        let part = parts[..depth.min(parts.len())].join(".");
        if modules.last().is_none_or(|last| last.name != part) {
            modules.push(Module { name: part, ..Module::default() });
        }
        if let Some(module) = modules.last_mut() {
            module.tensors += 1;
            module.parameters += tensor.numel() as u64;
        }
    }
    modules
}

fn files(dir: &Path) -> Result<BTreeMap<String, u64>> {
    let read = || -> std::io::Result<BTreeMap<String, u64>> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let about = entry.metadata()?;
            if about.is_file() {
                files.insert(entry.file_name().to_string_lossy().into_owned(), about.len());
            }
        }
        Ok(files)
    };
    read().with_context(|| dir.display().to_string())
}

fn describe(report: &Report) -> Result<String> {
    let mut out = String::new();
    writeln!(out, "{}", report.checkpoint.display())?;
    match &report.config.origin {
        Some(origin) => {
            writeln!(out, "  converted from {} {}", origin.program, origin.version)?;
        }
        None => writeln!(out, "  trained by vd")?,
    }
    let step = report.step.map_or("unknown".to_owned(), count);
    writeln!(out, "  step        {step}")?;
    writeln!(out, "  weights     {}", report.weights.join(", "))?;
    let [h, w] = report.size;
    writeln!(out, "  clips       {} frames of {h}x{w}, {} per second", report.frames, report.fps)?;
    writeln!(out, "  prompts     {}", prompts(report))?;
    for (name, signal) in &report.signals {
        writeln!(out, "  signal      {name}: {}", what(signal))?;
    }
    writeln!(out, "  parameters  {}", count(report.parameters))?;
    describe_modules(&mut out, &report.modules, report.parameters)?;
    writeln!(out, "  files")?;
    for (name, size) in &report.files {
        writeln!(out, "    {name:<24} {:>10}", bytes(*size))?;
    }
    writeln!(out, "  config")?;
    for line in config_lines(&report.config)? {
        writeln!(out, "    {line}")?;
    }
    Ok(out)
}

fn describe_modules(out: &mut String, modules: &[Module], parameters: u64) -> Result<()> {
    for module in modules {
        let share = 100.0 * module.parameters as f64 / parameters.max(1) as f64;
        let (name, n) = (&module.name, count(module.parameters));
        writeln!(out, "    {name:<20} {n:>14} {share:>5.1} %")?;
    }
    Ok(())
}

fn prompts(report: &Report) -> String {
    if !report.conditional {
        return match report.signals.keys().next() {
            None => "none: the model is unconditional".to_owned(),
            Some(name) => format!(
                "none: the model was trained without text; give it signals (--signal {name}=VALUE, \
                 --signal-scale {name}=2)"
            ),
        };
    }
    let how = match &report.config.text {
        Some(_) => "yes",
        None => "by embedding (--cond): it is unknown how its prompts were encoded",
    };
    let guidance = match report.null_embedding {
        "trained" => "guidance works",
        "untrained" => "no guidance: the conditioning was never dropped in training",
        _ => "guidance may work: it is unknown whether its null embedding was trained",
    };
    format!("{how}; {guidance}")
}

fn what(signal: &SignalConfig) -> String {
    match signal {
        SignalConfig::Class { classes } => format!("one of {}", classes.join(", ")),
        SignalConfig::Scalar { mean, std } => format!("a number, about {mean} +- {std}"),
        SignalConfig::Series { width } => {
            format!("{}, also per frame", plural(*width as usize, "number"))
        }
        SignalConfig::Video { channels } => {
            format!("a video of {}", plural(*channels as usize, "channel"))
        }
    }
}

/// The config as TOML, without the long table of a schedule.
fn config_lines(config: &CheckpointConfig) -> Result<Vec<String>> {
    const LONGEST: usize = 100;
    let text = config.to_toml()?;
    let short = |line: &str| match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{} ...", &line[..at]),
        None => line.to_owned(),
    };
    Ok(text.lines().filter(|line| !line.trim().is_empty()).map(short).collect())
}
