//! Flags of the commands that draw.

use std::path::PathBuf;

use clap::Args;
use vd_diffusion::{GuidanceConfig, SamplerConfig, Spacing};

use super::tables::{guidance, sampler, spacing};
use super::values::scale;
use super::{Compute, NoiseName, ThresholdName, WeightsName};
use crate::output::Usage;

/// How clips are drawn.
#[derive(Debug, Args)]
pub(crate) struct DrawArgs {
    /// Steps of sampling [default: 50; lcm 8; ancestral, ddpm-*, langevin 256 or all there are]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) steps: Option<u32>,
    /// How each step is made: a name of `vd sample --list`, or a table with its settings
    #[arg(long, value_name = "NAME|TABLE", default_value = "ddim", value_parser = sampler)]
    pub(crate) sampler: SamplerConfig,
    /// Where the steps lie: a name of `vd sample --list`, or a table with its settings
    #[arg(long, value_name = "NAME|TABLE", default_value = "uniform-t", value_parser = spacing)]
    pub(crate) spacing: Spacing,
    /// The rule of guidance: a name of `vd sample --list`, or a table with its settings
    #[arg(long, value_name = "NAME|TABLE", default_value = "classifier-free")]
    #[arg(value_parser = guidance)]
    pub(crate) guidance: GuidanceConfig,
    /// How strongly clips follow prompt or row: 1 is no guidance, 2 to 5 are usual
    #[arg(long, value_name = "SCALE", default_value = "1", value_parser = scale)]
    pub(crate) cfg_scale: f64,
    /// A worse checkpoint of the same data, to be guided away from (autoguidance)
    #[arg(long, value_name = "CHECKPOINT")]
    pub(crate) guide: Option<PathBuf>,
    /// How far away from it: 1 is not at all
    #[arg(long, value_name = "SCALE", default_value = "2", requires = "guide")]
    #[arg(value_parser = scale)]
    pub(crate) guide_scale: f64,
    /// How the predicted clip is kept in the range of pixels at every step
    #[arg(long, value_enum, value_name = "RULE", default_value = "static")]
    pub(crate) threshold: ThresholdName,
    /// Which weights [default: ema where the checkpoint has them, else model]
    #[arg(long, value_enum, value_name = "WHICH")]
    pub(crate) weights: Option<WeightsName>,
    /// Names the noise: the same seed draws the same clips
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Where samplers that draw noise at each step have it from
    #[arg(long, value_enum, value_name = "SOURCE", default_value = "fresh")]
    pub(crate) noise: NoiseName,
    #[command(flatten)]
    pub(crate) compute: Compute,
}

impl DrawArgs {
    /// Refuses flags of which one makes the other do nothing.
    pub(crate) fn check(&self) -> Result<(), Usage> {
        let unguided = self.cfg_scale == 1.0 && self.guide.is_none();
        if unguided && self.guidance != GuidanceConfig::default() {
            return Err(Usage(format!(
                "--guidance {}: no rule does anything at --cfg-scale 1; give --cfg-scale 2 with \
                 --prompt or --cond, or --guide with a worse checkpoint, or leave --guidance out",
                self.guidance.name()
            )));
        }
        match (&self.spacing, self.steps) {
            (Spacing::Explicit { t }, Some(steps)) if t.len() != steps as usize + 1 => {
                Err(Usage(format!(
                    "--steps {steps} with --spacing explicit: its {} times make {} steps; leave \
                     --steps out",
                    t.len(),
                    t.len() - 1
                )))
            }
            _ => Ok(()),
        }
    }
}
