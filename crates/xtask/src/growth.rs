//! `growth`: how the cost of the network grows with its input.

use crate::error::Result;
use crate::paths;
use crate::setup;
use crate::stage;

const EXAMPLE: [&str; 5] = ["--release", "-p", "vd-unet3d", "--example", "growth"];
/// The folder of the numbers and plots, relative to the root of the workspace.
const FOLDER: &str = "docs/benchmarks";

pub(crate) fn run(args: &[String]) -> Result<()> {
    let libtorch = setup::ensure()?;
    stage::run("build the measuring program", stage::cargo(&libtorch)?.arg("build").args(EXAMPLE))?;
    let mut growth = stage::cargo(&libtorch)?;
    growth.args(["run", "--quiet"]).args(EXAMPLE).arg("--");
    stage::run("growth", growth.arg(paths::root()?.join(FOLDER)).args(args))
}
