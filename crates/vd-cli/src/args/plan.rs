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
    /// Change a setting of the config; may be given several times
    #[arg(long = "set", value_name = "section.key=value", value_parser = setting)]
    pub(crate) set: Vec<String>,
    /// Estimate for this card, too; may be given several times
    #[arg(long, value_name = "NAME", value_enum)]
    pub(crate) gpu: Vec<Gpu>,
    /// Do a few steps and say what they took
    #[arg(long, hide = true)]
    pub(crate) probe: bool,
}
