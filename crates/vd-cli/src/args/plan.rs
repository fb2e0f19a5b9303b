//! Flags of `vd plan`.

use std::path::PathBuf;

use clap::Args;

use super::values::setting;
use crate::commands::Gpu;

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The run's config, a TOML file
    #[arg(value_name = "CONFIG.toml")]
    pub(crate) config: PathBuf,
    /// Override a setting of the config; may be repeated
    #[arg(long = "set", value_name = "section.key=value", value_parser = setting)]
    pub(crate) set: Vec<String>,
    /// Also estimate for this GPU; may be repeated
    #[arg(long, value_name = "NAME", value_enum)]
    pub(crate) gpu: Vec<Gpu>,
    /// Count each layer's arithmetic and memory traffic instead, and run nothing
    #[arg(long, conflicts_with_all = ["gpu", "probe"])]
    pub(crate) layers: bool,
    /// With --layers: a device's GB/s and Tflop/s, such as 3000,798, for lower bounds of the time
    #[arg(long, value_name = "GB,TFLOP", requires = "layers", value_parser = rates)]
    pub(crate) rates: Option<(f64, f64)>,
    /// Do a few steps and say what they took
    #[arg(long, hide = true)]
    pub(crate) probe: bool,
}

/// GB and Tflop a second.
fn rates(text: &str) -> Result<(f64, f64), String> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| *n > 0.0 && n.is_finite());
    let both = text.split_once(',').and_then(|(gb, tflop)| Some((number(gb)?, number(tflop)?)));
    both.ok_or_else(|| "expected GB and Tflop per second, such as 3000,798".to_owned())
}
