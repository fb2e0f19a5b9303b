//! `demo`: trains a small model and samples from it.

use crate::error::Result;
use crate::setup;
use crate::stage;

const EXAMPLE: [&str; 5] = ["--release", "-p", "vd-examples", "--example", "demo"];

pub(crate) fn run(args: &[String]) -> Result<()> {
    let libtorch = setup::ensure()?;
    // Built first and alone, so that the time of the demo is the demo's.
    stage::run("build the demo", stage::cargo(&libtorch)?.arg("build").args(EXAMPLE))?;
    let mut demo = stage::cargo(&libtorch)?;
    stage::run("demo", demo.args(["run", "--quiet"]).args(EXAMPLE).arg("--").args(args))
}
