//! Flags shared by the sampling commands, and checks that a model supports them.

mod checks;
mod files;
mod groups;
mod stop;
mod threshold;
mod told;

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use tch::Tensor;
use vd_diffusion::{GuidanceConfig, Ranges, SamplerConfig, Spacing, Threshold};
use vd_text_cond::{Condition, GenerateRequest, Guide, NoiseSource, Progress, generate_with};

use crate::args::{DrawArgs, NoiseName};
use crate::model::{Model, device_name};

pub(crate) use files::Files;
pub(crate) use groups::{Ask, Flags, Groups};
pub(crate) use stop::{Left, Stop};
use told::Told;
pub(crate) use told::of_frames;

/// Default steps of samplers that draw little or no fresh noise.
const STEPS: usize = 50;
/// Default steps of ancestral sampling in continuous time.
const ANCESTRAL_STEPS: usize = 256;
/// Default steps of a consistency model.
const LCM_STEPS: usize = 8;

/// How clips are sampled.
#[derive(Debug)]
pub(crate) struct Drawing {
    pub(crate) steps: usize,
    sampler: SamplerConfig,
    spacing: Spacing,
    rule: GuidanceConfig,
    threshold: Threshold,
    /// What the threshold keeps each channel in; `None`: [-1, 1].
    ranges: Option<Ranges>,
    /// Whether clips end in this range.
    clamp: bool,
    scale: f64,
    seed: u64,
    noise: NoiseSource,
    /// The model to guide away from, and the scale.
    guide: Option<(Model, f64)>,
}

impl Drawing {
    pub(crate) fn new(args: &DrawArgs, groups: &Groups, model: &Model) -> Result<Self> {
        checks::guidance(args, groups, model)?;
        let config = model.config();
        ensure!(
            config.out_channels() == config.channels,
            "this network has {} output channels for {} input channels: it cannot draw clips",
            config.out_channels(),
            config.channels
        );
        let steps = steps(args, model)?;
        let grid = args.spacing.grid(model.diffusion.schedule(), steps);
        grid.with_context(|| {
            format!("--spacing {} at {steps} steps (--steps)", args.spacing.name())
        })?;
        let (threshold, ranges) = threshold::of(args.threshold, model)?;
        Ok(Drawing {
            steps,
            sampler: args.sampler.clone(),
            spacing: args.spacing.clone(),
            rule: args.guidance,
            threshold,
            clamp: model.is_within() || (threshold == Threshold::Static && ranges.is_some()),
            ranges,
            scale: args.cfg_scale,
            seed: args.seed,
            noise: match args.noise {
                NoiseName::Fresh => NoiseSource::Fresh,
                NoiseName::Path => NoiseSource::Path,
            },
            guide: checks::guide(args, model)?,
        })
    }

    /// Samples clips.
    pub(crate) fn generate(
        &self,
        model: &Model,
        request: &GenerateRequest,
        on_step: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Tensor> {
        let guide = self.guide.as_ref().map(|(guide, scale)| Guide {
            backbone: &guide.loaded.network,
            diffusion: &guide.diffusion,
            scale: *scale,
            within: self.rule.within(),
        });
        let videos = generate_with(&model.generator(), guide, request, on_step)?;
        model.tell_of_graphs();
        ensure!(
            videos.f_isfinite()?.f_all()?.f_int64_value(&[])? == 1,
            "the network answered with NaN or infinity; try the checkpoint of an earlier step"
        );
        Ok(videos)
    }

    /// The request for clips of this shape; the first of them uses the first noise of the seed.
    pub(crate) fn request(
        &self,
        condition: Condition,
        shape: [i64; 3],
        model: &Model,
    ) -> GenerateRequest {
        GenerateRequest {
            channels: model.config().channels,
            steps: self.steps,
            sampler: self.sampler.clone(),
            spacing: self.spacing.clone(),
            guidance: self.scale,
            rule: self.rule,
            threshold: self.threshold,
            ranges: self.ranges.clone(),
            clamp: self.clamp,
            seed: self.seed,
            noise: self.noise,
            batch: condition.clips(),
            device: model.device,
            ..GenerateRequest::new(condition, shape)
        }
    }

    /// Warns on stderr about questionable settings.
    pub(crate) fn announce(&self, groups: &Groups, model: &Model) {
        checks::announce(self.scale, groups, model);
    }
}

/// The conditioning of clips in JSON; texts are in the grammar of --prompt.
#[derive(Debug, Serialize)]
pub(crate) struct Asked {
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    negative: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    signals: Vec<Told>,
}

/// How clips were sampled, in JSON.
#[derive(Debug, Serialize)]
pub(crate) struct How {
    checkpoint: PathBuf,
    step: Option<u64>,
    weights: String,
    steps: usize,
    sampler: &'static str,
    spacing: &'static str,
    guidance: &'static str,
    settings: Settings,
    cfg_scale: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    guide: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guide_scale: Option<f64>,
    threshold: &'static str,
    /// What a static threshold clamps each channel to, where that is not [-1, 1] for all; an infinite
    /// end is null.
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold_ranges: Option<Vec<[f64; 2]>>,
    seed: u64,
    noise: NoiseName,
    device: String,
    threads: usize,
}

/// The components with all their settings, as written in configs.
#[derive(Debug, Serialize)]
struct Settings {
    sampler: SamplerConfig,
    spacing: Spacing,
    guidance: GuidanceConfig,
    threshold: Threshold,
}

impl How {
    pub(crate) fn new(args: &DrawArgs, drawing: &Drawing, model: &Model) -> Self {
        How {
            checkpoint: model.checkpoint.dir.clone(),
            step: model.checkpoint.step(),
            weights: model.loaded.weights.to_string(),
            steps: drawing.steps,
            sampler: args.sampler.facts().name,
            spacing: args.spacing.name(),
            guidance: args.guidance.name(),
            settings: Settings {
                sampler: args.sampler.clone(),
                spacing: args.spacing.clone(),
                guidance: args.guidance,
                threshold: drawing.threshold,
            },
            cfg_scale: args.cfg_scale,
            guide: args.guide.clone(),
            guide_scale: args.guide.as_ref().map(|_| args.guide_scale),
            threshold: drawing.threshold.name(),
            threshold_ranges: drawing.ranges.as_ref().map(|ranges| ranges.each().to_vec()),
            seed: args.seed,
            noise: args.noise,
            device: device_name(model.device),
            threads: vd_torch::threads(),
        }
    }
}

fn steps(args: &DrawArgs, model: &Model) -> Result<usize> {
    let entries = model.diffusion.schedule().steps();
    if let Some(steps) = args.steps {
        return match entries.filter(|entries| steps as usize > *entries) {
            None => Ok(steps as usize),
            Some(entries) => {
                bail!(
                    "--steps {steps}: this model's schedule has {entries} steps; give at most that many"
                )
            }
        };
    }
    if let Spacing::Explicit { t } = &args.spacing {
        return Ok(t.len().saturating_sub(1).max(1));
    }
    let usual = match args.sampler {
        SamplerConfig::Ancestral { .. }
        | SamplerConfig::DdpmSmall { .. }
        | SamplerConfig::DdpmLarge
        | SamplerConfig::Langevin { .. } => return Ok(entries.unwrap_or(ANCESTRAL_STEPS)),
        SamplerConfig::Lcm { .. } => LCM_STEPS,
        _ => STEPS,
    };
    Ok(entries.map_or(usual, |entries| entries.min(usual)))
}
