//! Runs the commands of a task one after another, each with a heading and its time.

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::error::{Error, Result, failed};
use crate::paths;
use crate::setup::OVERRIDES;

/// A cargo command at the root of the workspace, with the same LIBTORCH for all stages: another
/// spelling of the same folder would rebuild torch-sys.
pub(crate) fn cargo(libtorch: &Path) -> Result<Command> {
    let mut cargo = bare_cargo();
    cargo.current_dir(paths::root()?).env("LIBTORCH", libtorch);
    Ok(cargo)
}

/// A cargo command without the environment variables of the cargo that started this program.
pub(crate) fn bare_cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let of_this_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
        if of_this_package.iter().any(|start| text.starts_with(start)) {
            cargo.env_remove(&name);
        }
    }
    for name in OVERRIDES {
        cargo.env_remove(name);
    }
    cargo
}

/// Runs one stage; its error names the stage.
pub(crate) fn run(heading: &str, command: &mut Command) -> Result<()> {
    timed(heading, || {
        let program = command.get_program().to_string_lossy().into_owned();
        let ended = command.status();
        let status = ended.map_err(|e| Error::Failed(format!("cannot start {program}: {e}")))?;
        if status.success() { Ok(()) } else { failed(format!("`{heading}` failed ({status})")) }
    })
}

/// Prints a heading before a stage and its duration after it.
pub(crate) fn timed<T>(heading: &str, stage: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("\n== {heading}");
    let start = Instant::now();
    let done = stage()?;
    eprintln!("== {heading}: {:.0} s", start.elapsed().as_secs_f64());
    Ok(done)
}
