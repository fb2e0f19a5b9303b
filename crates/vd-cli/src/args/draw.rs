//! Flags of the commands that draw.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{ArgAction, Args};
use vd_diffusion::{GuidanceConfig, SamplerConfig, Spacing, Threshold};
use vd_tensor_ops::kernels::Precision;
use vd_torch::Autocast;

use super::tables::{guidance, sampler, spacing, threshold};
use super::values::{Parts, negative, scale, signal, signal_scale};
use super::{Compute, NoiseName, WeightsName};
use crate::output::Usage;

/// How clips are drawn.
#[derive(Debug, Args)]
pub(crate) struct DrawArgs {
    /// Sampling steps [default: 50; lcm 8; ancestral, ddpm-*, langevin 256 or the schedule's]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) steps: Option<u32>,
    /// Sampler: a name from `vd sample --list`, or a table with its settings
    #[arg(long, value_name = "NAME|TABLE", default_value = "ddim", value_parser = sampler)]
    pub(crate) sampler: SamplerConfig,
    /// Spacing of the steps: a name from `vd sample --list`, or a table with its settings
    #[arg(long, value_name = "NAME|TABLE", default_value = "uniform-t", value_parser = spacing)]
    pub(crate) spacing: Spacing,
    /// Guidance rule: a name from `vd sample --list`, or a table with its settings
    #[arg(long, value_name = "NAME|TABLE", default_value = "classifier-free")]
    #[arg(value_parser = guidance)]
    pub(crate) guidance: GuidanceConfig,
    /// How strongly clips follow their prompt or row: 1 is no guidance, 2 to 5 are usual
    #[arg(long, value_name = "SCALE", default_value = "1", value_parser = scale)]
    pub(crate) cfg_scale: f64,
    /// What guidance pushes away from, instead of the null embedding
    #[arg(long, value_name = "TEXT", value_parser = negative)]
    pub(crate) negative: Option<Parts>,
    /// A further conditioning input that the model takes; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = signal)]
    pub(crate) signal: Vec<(String, String)>,
    /// How strongly clips follow a signal: 1 is no guidance [default: 1]
    #[arg(long, value_name = "NAME=SCALE", value_parser = signal_scale)]
    pub(crate) signal_scale: Vec<(String, f64)>,
    /// A worse checkpoint of the same data, to guide away from (autoguidance)
    #[arg(long, value_name = "CHECKPOINT")]
    pub(crate) guide: Option<PathBuf>,
    /// How strongly to guide away from it: 1 is no guidance
    #[arg(long, value_name = "SCALE", default_value = "2", requires = "guide")]
    #[arg(value_parser = scale)]
    pub(crate) guide_scale: f64,
    /// How each step's clip is kept in range: static, dynamic, none, or a table [default: static]
    #[arg(long, value_name = "NAME|TABLE", value_parser = threshold)]
    pub(crate) threshold: Option<Threshold>,
    /// Directory of the model's text encoder, if it was moved after training
    #[arg(long, value_name = "DIR")]
    pub(crate) encoder: Option<PathBuf>,
    /// Arithmetic on CPUs: f32, bf16 (in attentions), exact, reference (libtorch)
    #[arg(long, value_name = "HOW", default_value = "f32")]
    pub(crate) precision: Precision,
    /// Precision of products and convolutions: off (f32), bf16, fp16
    #[arg(long, value_name = "DTYPE", default_value = "off")]
    pub(crate) autocast: Autocast,
    /// Record the network once as a CUDA graph and replay it: on, off
    #[arg(long, value_name = "WHETHER", default_value = "on", value_parser = on_off)]
    #[arg(action = ArgAction::Set)]
    pub(crate) graphs: bool,
    /// Which weights to use [default: ema if the checkpoint has them, else model]
    #[arg(long, value_enum, value_name = "WHICH")]
    pub(crate) weights: Option<WeightsName>,
    /// Seed of the noise: the same seed gives the same clips
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Where samplers that draw noise at each step get it
    #[arg(long, value_enum, value_name = "SOURCE", default_value = "fresh")]
    pub(crate) noise: NoiseName,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

impl DrawArgs {
    /// Refuses an encoder with nothing to encode.
    pub(crate) fn check_encoder(&self, asks: bool) -> Result<(), Usage> {
        match &self.encoder {
            Some(path) if !asks => Err(Usage(format!(
                "--encoder {}: there is no prompt to encode; give --prompt, or omit --encoder",
                path.display()
            ))),
            _ => Ok(()),
        }
    }

    /// Refuses flags of which one makes the other do nothing; `guided` says whether more than these
    /// flags may ask for guidance.
    pub(crate) fn check(&self, guided: bool) -> Result<(), Usage> {
        let unguided = self.cfg_scale == 1.0 && !guided;
        let alone = unguided && self.guide.is_none() && self.signal_scale.is_empty();
        if alone && self.guidance != GuidanceConfig::default() {
            return Err(Usage(format!(
                "--guidance {}: no rule has any effect at --cfg-scale 1; give --cfg-scale 2 with \
                 --prompt or --cond, or --guide with a worse checkpoint, or omit --guidance",
                self.guidance.name()
            )));
        }
        if unguided && self.negative.is_some() {
            let why = "--negative: has no effect at --cfg-scale 1; give \
                       --cfg-scale 2, or omit --negative";
            return Err(Usage(why.to_owned()));
        }
        once("--signal", self.signal.iter().map(|(name, _)| name))?;
        once("--signal-scale", self.signal_scale.iter().map(|(name, _)| name))?;
        for (name, scale) in &self.signal_scale {
            if !guided && !self.signal.iter().any(|(signal, _)| signal == name) {
                return Err(Usage(format!(
                    "--signal-scale {name}={scale}: there is no --signal {name}=VALUE to follow"
                )));
            }
        }
        match (&self.spacing, self.steps) {
            (Spacing::Explicit { t }, Some(steps)) if t.len() != steps as usize + 1 => {
                Err(Usage(format!(
                    "--steps {steps} with --spacing explicit: its {} times make {} steps; omit \
                     --steps",
                    t.len(),
                    t.len() - 1
                )))
            }
            _ => Ok(()),
        }
    }
}

/// `on` or `off`.
pub(super) fn on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("expected on or off".to_owned()),
    }
}

/// Refuses a name that comes twice.
fn once<'a>(flag: &str, names: impl Iterator<Item = &'a String>) -> Result<(), Usage> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(Usage(format!("{flag} {name}=...: given more than once; give it once")));
        }
    }
    Ok(())
}
