//! How clips are drawn: the flags that the drawing commands share, and what a model allows of them.

mod groups;
mod stop;
mod told;

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use tch::Tensor;
use vd_diffusion::{GuidanceConfig, SamplerConfig, Spacing, Threshold};
use vd_text_cond::{
    Condition, GenerateRequest, Guide, NoiseSource, NullEmbedding, Progress, generate_with,
};
use vd_unet3d::Backbone;

use crate::args::{DrawArgs, NoiseName};
use crate::model::{Model, device_name};
use crate::output::Usage;

pub(crate) use groups::{Ask, Flags, Groups};
pub(crate) use stop::{Left, Stop};
pub(crate) use told::of_frames;

/// Steps of samplers that draw little or no fresh noise, where nothing is said.
const STEPS: usize = 50;
/// Steps of ancestral sampling in continuous time.
const ANCESTRAL_STEPS: usize = 256;
/// Steps of a consistency model.
const LCM_STEPS: usize = 8;

/// How clips are drawn.
#[derive(Debug)]
pub(crate) struct Drawing {
    pub(crate) steps: usize,
    sampler: SamplerConfig,
    spacing: Spacing,
    rule: GuidanceConfig,
    threshold: Threshold,
    scale: f64,
    seed: u64,
    noise: NoiseSource,
    /// What to guide away from, and how far.
    guide: Option<(Model, f64)>,
}

impl Drawing {
    pub(crate) fn new(args: &DrawArgs, groups: &Groups, model: &Model) -> Result<Self> {
        check_guidance(args, groups, model)?;
        let config = model.config();
        ensure!(
            config.out_channels() == config.channels,
            "this network answers with {} channels to {}: clips cannot be drawn from it",
            config.out_channels(),
            config.channels
        );
        let steps = steps(args, model)?;
        let grid = args.spacing.grid(model.diffusion.schedule(), steps);
        grid.with_context(|| {
            format!("--spacing {} at {steps} steps (--steps)", args.spacing.name())
        })?;
        Ok(Drawing {
            steps,
            sampler: args.sampler.clone(),
            spacing: args.spacing.clone(),
            rule: args.guidance,
            threshold: args.threshold,
            scale: args.cfg_scale,
            seed: args.seed,
            noise: match args.noise {
                NoiseName::Fresh => NoiseSource::Fresh,
                NoiseName::Path => NoiseSource::Path,
            },
            guide: guide(args, model)?,
        })
    }

    /// Draws clips.
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
        ensure!(
            videos.f_isfinite()?.f_all()?.f_int64_value(&[])? == 1,
            "the network answered with NaN or infinity; an earlier step's checkpoint may be sound"
        );
        Ok(videos)
    }

    /// The call that draws clips of this shape, the first of them with the first noise of the seed.
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
            seed: self.seed,
            noise: self.noise,
            batch: condition.clips(),
            device: model.device,
            ..GenerateRequest::new(condition, shape)
        }
    }

    /// Says on stderr what is doubtful about it.
    pub(crate) fn announce(&self, groups: &Groups, model: &Model) {
        for (name, _) in model.loaded.network.signals() {
            if groups.miss(name) {
                tracing::info!(
                    "no --signal {name}=VALUE: the model shows its own stand-in for it, which training must have used"
                );
            }
        }
        if !model.loaded.network.takes_text() {
            return;
        }
        let null = model.checkpoint.null();
        if groups.is_nothing() {
            match null {
                NullEmbedding::Trained => tracing::info!(
                    "neither --prompt nor --cond: drawing from the null embedding, whatever the model has learned"
                ),
                NullEmbedding::Untrained => tracing::warn!(
                    "neither --prompt nor --cond: drawing from the null embedding, which this model's training (text.drop = 0) never saw; expect little"
                ),
                NullEmbedding::Unknown => tracing::warn!(
                    "neither --prompt nor --cond: drawing from the null embedding, which may be untrained in a converted model"
                ),
            }
        } else if self.scale != 1.0 && null == NullEmbedding::Unknown {
            tracing::warn!(
                "--cfg-scale {}: nothing says that the training of this converted model ever dropped its conditioning; if it did not, its null embedding is untrained and guidance leads astray",
                self.scale
            );
        }
    }
}

/// How clips were drawn, for programs.
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
    seed: u64,
    noise: NoiseName,
    device: String,
    threads: usize,
}

/// The parts with all their settings, as configs have them.
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
                threshold: args.threshold,
            },
            cfg_scale: args.cfg_scale,
            guide: args.guide.clone(),
            guide_scale: args.guide.as_ref().map(|_| args.guide_scale),
            threshold: args.threshold.name(),
            seed: args.seed,
            noise: args.noise,
            device: device_name(model.device),
            threads: vd_torch::threads(),
        }
    }
}

/// The checkpoint to guide away from.
fn guide(args: &DrawArgs, model: &Model) -> Result<Option<(Model, f64)>> {
    let Some(path) = &args.guide else { return Ok(None) };
    let guide = Model::open(path, None, model.device).context("--guide")?;
    let (name, config) = (path.display(), guide.config());
    let (found, wanted) = (config.channels, model.config().channels);
    ensure!(
        found == wanted && config.out_channels() == wanted,
        "--guide {name}: draws {found} channels, expected {wanted} like the model"
    );
    ensure!(
        guide.checkpoint.config.diffusion.schedule == model.checkpoint.config.diffusion.schedule,
        "--guide {name}: trained under another noise schedule than the model; give one trained \
         under the same"
    );
    Ok(Some((guide, args.guide_scale)))
}

fn check_guidance(args: &DrawArgs, groups: &Groups, model: &Model) -> Result<()> {
    let (scale, network) = (args.cfg_scale, &model.loaded.network);
    if scale != 1.0 && !network.takes_text() {
        bail!(
            "--cfg-scale {scale}: this model is unconditional, there is nothing to guide towards; \
             leave --cfg-scale out, or use a model trained with a [text] section"
        );
    }
    if scale != 1.0 && groups.is_nothing() {
        bail!("--cfg-scale {scale}: guidance needs something to guide towards, --prompt or --cond");
    }
    let guided: Vec<_> = groups.asks().iter().filter(|ask| ask.text.is_some()).collect();
    let scale_of = |ask: &Ask| ask.scale.unwrap_or(scale);
    if args.negative.is_some() && guided.iter().all(|ask| scale_of(ask) == 1.0) {
        let why = "--negative: no prompt has a scale other than 1, at which nothing is pulled away \
                   from it; give --cfg-scale 2, or leave --negative out";
        return Err(Usage(why.to_owned()).into());
    }
    if model.checkpoint.null() != NullEmbedding::Untrained {
        return Ok(());
    }
    let shows_null = |ask: &&&Ask| ask.text.as_ref().is_none_or(|text| text.negative.is_none());
    let mut scales: Vec<_> = guided.iter().filter(shows_null).map(|ask| scale_of(ask)).collect();
    if groups.is_rows() {
        scales.push(scale);
    }
    match scales.into_iter().find(|scale| *scale != 1.0) {
        None => Ok(()),
        Some(scale) => bail!(
            "--cfg-scale {scale}: guidance pulls away from the null embedding, but this model was \
             trained with text.drop = 0 and has never seen it; leave --cfg-scale out, say what to \
             pull away from with --negative, or train with text.drop = 0.1"
        ),
    }
}

fn steps(args: &DrawArgs, model: &Model) -> Result<usize> {
    let entries = model.diffusion.schedule().steps();
    if let Some(steps) = args.steps {
        return match entries.filter(|entries| steps as usize > *entries) {
            None => Ok(steps as usize),
            Some(entries) => {
                bail!(
                    "--steps {steps}: this model's schedule has {entries} steps, give at most those"
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
