//! `demo`: trains a small model and samples from it.

use crate::error::Result;
use crate::setup;
use crate::stage;

const EXAMPLE: [&str; 5] = ["--release", "-p", "vd-examples", "--example", "demo"];

pub(crate) fn run(args: &[String]) -> Result<()> {
    let libtorch = setup::ensure()?;
    // Built first, so that the reported time is that of the demo alone.
    stage::run("build the demo", stage::cargo(&libtorch)?.arg("build").args(EXAMPLE))?;
    let mut demo = stage::cargo(&libtorch)?;
    stage::run("demo", demo.args(["run", "--quiet"]).args(EXAMPLE).arg("--").args(args))
}
