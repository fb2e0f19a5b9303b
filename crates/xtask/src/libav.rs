//! The feature `libav`: built and tested if its libraries are installed.

use std::path::Path;
use std::process::Command;

use crate::error::Result;
use crate::paths;
use crate::stage;

const LIBRARIES: [&str; 4] = ["libavcodec", "libavfilter", "libavformat", "libavutil"];

pub(crate) fn check(libtorch: &Path) -> Result<()> {
    if let Some(missing) = missing() {
        eprintln!("\n== {missing}: the feature libav was not checked (docs/data.md)");
        return Ok(());
    }
    let cargo = || stage::cargo(libtorch);
    let clippy = ["clippy", "-p", "vd-data", "-p", "vd-cli", "--features", "vd-cli/libav"];
    let mut clippy_all = cargo()?;
    clippy_all.args(clippy).args(["--all-targets", "--", "-D", "warnings"]);
    stage::run("cargo clippy of libav", &mut clippy_all)?;
    let test = |args: &[&str]| -> Result<Command> {
        let mut test = cargo()?;
        test.args(["test", "-p", "vd-data", "--features", "libav"]).args(args);
        Ok(test)
    };
    stage::run("libav compared with ffmpeg", &mut test(&["--lib", "decode::ffmpeg"])?)?;
    let films = ["--test", "films", "--test", "films_refused"];
    stage::run("videos through libav", &mut test(&films)?)
}

/// What the feature needs but the machine lacks.
fn missing() -> Option<&'static str> {
    if paths::which("clang").is_none() {
        return Some("clang was not found");
    }
    let found = Command::new("pkg-config").arg("--exists").args(LIBRARIES).status();
    let found = found.is_ok_and(|status| status.success());
    (!found).then_some("pkg-config finds no libav")
}
