//! `vd convert`: converts a checkpoint of video-diffusion-pytorch.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tch::{Device, Kind};
use vd_diffusion::{DiffusionConfig, ScheduleConfig};
use vd_tensor_ops::Params;
use vd_train::{ASSUMED_SHAPE, CheckpointConfig, Origin, WeightKind, write_imported};
use vd_unet3d::{UNet3d, UNet3dConfig};

use crate::args::{ConvertArgs, FrameSize, PeerVersion, WeightsName};
use crate::convert::{Answer, Network, Source, Verdict, schedule};
use crate::output::{Outcome, count};
use crate::{folder, infer};

/// The program whose files are read.
const PROGRAM: &str = "video-diffusion-pytorch";

#[derive(Debug, Serialize)]
struct Report {
    /// The folder that was written; `null` if the check failed.
    out: Option<PathBuf>,
    source: PathBuf,
    kind: &'static str,
    version: String,
    step: Option<u64>,
    /// The sets of weights that were converted.
    weights: Vec<String>,
    /// The set that `vd sample` uses by default, and that was checked.
    chosen: WeightsName,
    parameters: u64,
    frames: usize,
    size: [usize; 2],
    model: UNet3dConfig,
    /// The number of steps of the schedule.
    timesteps: usize,
    /// Whether the schedule comes from the file or from --timesteps.
    schedule_from_file: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tolerance: Option<f64>,
    #[serde(flatten)]
    verdict: Option<Verdict>,
}

pub(crate) fn run(args: &ConvertArgs) -> Result<Outcome> {
    let device = args.compute.start()?;
    folder::check_new(&args.out)?;
    let answer = match &args.check {
        Some(path) => Some(Answer::read(path, device).context("--check")?),
        None => None,
    };
    let source = Source::read(&args.model)?;
    tracing::info!("{} is {}", args.model.display(), source.kind);
    let (sets, chosen) = choose(source.sets(), args.weights)?;
    let network = sets[&chosen];
    let groups = args.resnet_groups.map(i64::from);
    let config = infer::network(&network.shapes(), args.version, groups)
        .with_context(|| args.model.display().to_string())?;
    say_version(args.version);
    let schedule = schedule(network.betas.as_deref(), args.timesteps.map(|n| n as usize))?;
    let (frames, size) = clips(args, answer.as_ref());
    let (unet, params) = load(&sets, chosen, &config, device)?;
    let verdict = answer.map(|answer| answer.compare(&unet, args.tolerance)).transpose()?;
    let passed = verdict.is_none_or(|verdict| verdict.passed);
    let report = Report {
        out: passed.then(|| args.out.clone()),
        source: args.model.clone(),
        kind: source.kind,
        version: args.version.to_string(),
        step: source.step,
        weights: sets.keys().map(WeightKind::to_string).collect(),
        chosen: if chosen == WeightKind::Ema { WeightsName::Ema } else { WeightsName::Model },
        parameters: params.count() as u64,
        frames,
        size,
        timesteps: steps(&schedule)?,
        schedule_from_file: network.betas.is_some(),
        tolerance: args.check.is_some().then_some(args.tolerance),
        verdict,
        model: config,
    };
    if passed {
        write(args, &report, schedule, &sets)?;
    }
    let text = describe(args, &report);
    Ok(Outcome::new(&report, text)?.with_success(passed))
}

type Sets<'a> = BTreeMap<WeightKind, &'a Network>;

/// The sets of weights to write, and the one to check: those requested, else all of them, and the
/// moving average.
fn choose(mut sets: Sets<'_>, asked: Option<WeightsName>) -> Result<(Sets<'_>, WeightKind)> {
    let there: Vec<_> = sets.keys().map(WeightKind::to_string).collect();
    if let Some(name) = asked {
        sets.retain(|kind, _| *kind == WeightKind::from(name));
    }
    let Some(chosen) = sets.keys().next().copied() else {
        let asked = asked.map_or_else(String::new, |name| format!("--weights {name}: "));
        bail!("{asked}the file holds no such weights, only {}", there.join(", "));
    };
    let taken: Vec<_> = sets.keys().map(WeightKind::to_string).collect();
    tracing::info!("weights in the file: {}; taking {}", there.join(", "), taken.join(", "));
    Ok((sets, chosen))
}

/// Reports what the file does not contain.
fn say_version(version: PeerVersion) {
    match version {
        PeerVersion::V0_7 => {}
        PeerVersion::V0_5 | PeerVersion::V0_6 => tracing::info!(
            "read as a file of {version}, as --version says: files of 0.5 and 0.6 have the same names \
             and shapes but define different functions, so only --check detects a wrong version"
        ),
    }
}

/// The default frames and size of clips, and where they come from.
fn clips(args: &ConvertArgs, answer: Option<&Answer>) -> (usize, [usize; 2]) {
    let asked = |n: Option<i64>, flag: &'static str| n.map(|n| (n, flag));
    let x = answer.map(Answer::frames_and_size);
    let (frames, from) = asked(args.frames.map(i64::from), "--frames")
        .or_else(|| asked(x.map(|[f, _, _]| f), "--check's x"))
        .unwrap_or((ASSUMED_SHAPE.0 as i64, "the default; the file does not record it"));
    tracing::info!("default number of frames: {frames} ({from})");
    let size = args.size.map(|size| (size, "--size"));
    let [h, w] = ASSUMED_SHAPE.1.map(|n| n as i64);
    let (size, from) = size
        .or_else(|| x.map(|[_, h, w]| (FrameSize { h, w }, "--check's x")))
        .unwrap_or((FrameSize { h, w }, "the default; the file does not record it"));
    tracing::info!("default frame size: {size} ({from})");
    (frames as usize, [size.h as usize, size.w as usize])
}

/// Loads all sets of weights into the network, and leaves the chosen one in it.
fn load(
    sets: &Sets<'_>,
    chosen: WeightKind,
    config: &UNet3dConfig,
    device: Device,
) -> Result<(UNet3d, Params)> {
    let mut params = Params::new(0, Kind::Float, device);
    let unet = UNet3d::new(config, &mut params.root())?;
    let others = sets.keys().copied().filter(|kind| *kind != chosen);
    for kind in others.chain([chosen]) {
        let network = sets[&kind];
        params.load(&network.tensors).with_context(|| format!("the {kind} weights"))?;
        if network.converted > 0 {
            tracing::info!("{kind}: converted {} tensors to f32", network.converted);
        }
        if let Some(name) = network.first_not_finite()? {
            tracing::warn!("{kind}: `{name}` has NaN or infinite values");
        }
    }
    Ok((unet, params))
}

fn steps(schedule: &ScheduleConfig) -> Result<usize> {
    schedule.build()?.steps().context("a discrete schedule")
}

fn write(
    args: &ConvertArgs,
    report: &Report,
    schedule: ScheduleConfig,
    sets: &Sets<'_>,
) -> Result<()> {
    let config = CheckpointConfig {
        model: report.model.clone(),
        diffusion: DiffusionConfig { schedule, ..DiffusionConfig::default() },
        text: None,
        signals: Default::default(),
        data: None,
        train: None,
        origin: Some(Origin {
            program: PROGRAM.to_owned(),
            version: report.version.clone(),
            step: report.step,
            frames: Some(report.frames),
            size: Some(report.size),
        }),
    };
    let tensors = |network: &Network| {
        network.tensors.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect()
    };
    let weights = sets.iter().map(|(kind, network)| (*kind, tensors(network))).collect();
    Ok(write_imported(&args.out, &config, weights)?)
}

fn describe(args: &ConvertArgs, report: &Report) -> String {
    let mut text = String::new();
    if let Some(Verdict { relative_l2, max_abs_error, passed }) = report.verdict {
        let word = if passed { "passed" } else { "FAILED" };
        text += &format!(
            "check {word}: relative L2 error {relative_l2:.2e} (limit {:.0e}), largest absolute \
             error {max_abs_error:.2e}\n",
            args.tolerance
        );
    }
    if report.out.is_none() {
        return text + &advice(args, report);
    }
    let weights = report.weights.join(" and ");
    let (parameters, out) = (count(report.parameters), args.out.display());
    text += &format!("wrote {weights} weights of {parameters} parameters to {out}\n");
    text + &format!("next: vd sample {out} --out clip.gif")
}

/// Possible reasons for a failed check.
fn advice(args: &ConvertArgs, report: &Report) -> String {
    let mut guesses = Vec::new();
    match args.version {
        PeerVersion::V0_5 => guesses.push("the file comes from 0.6.3 (--version 0.6.3)".to_owned()),
        PeerVersion::V0_6 => guesses.push("the file comes from 0.5.3 (--version 0.5.3)".to_owned()),
        PeerVersion::V0_7 => {}
    }
    if args.version != PeerVersion::V0_7 {
        guesses
            .push("the group norms have a different number of groups (--resnet-groups)".to_owned());
    }
    if report.weights.len() > 1 {
        guesses
            .push("the recorded outputs come from the other weights (--weights model)".to_owned());
    }
    if guesses.is_empty() {
        guesses.push("the recorded outputs come from another checkpoint".to_owned());
    }
    format!("nothing was written; possible causes:\n  {}", guesses.join("\n  "))
}
