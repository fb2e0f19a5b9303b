//! The `vd` binary: command line, progress, files, exit codes.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod convert;
mod folder;
mod infer;
mod logging;
mod model;
mod output;
mod progress;
mod signals;

use std::ffi::OsStr;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::thread;

use anyhow::{Result, anyhow};
use clap::Parser;
use clap::error::ErrorKind;
use indicatif::MultiProgress;

use args::{Cli, Command};
use output::{Outcome, Usage};

const FAILURE: u8 = 1;
const USAGE: u8 = 2;

/// Explains --version to users who left it out.
const WHY_VERSION: &str = "\
note: files of 0.5 and 0.6 cannot be told apart (they have the same names and shapes but define \
different functions), so --version is required";

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_understood(&error),
    };
    let bars = progress::bars();
    logging::init(&bars);
    let written = match run(cli.command, &bars) {
        Ok(outcome) => {
            let code = if outcome.success() { 0 } else { FAILURE };
            output::show(&outcome, cli.json).map(|()| code)
        }
        Err(error) => {
            let code = if error.is::<Usage>() { USAGE } else { FAILURE };
            output::show_error(&output::message(&error), cli.json).map(|()| code)
        }
    };
    match written {
        Ok(code) => ExitCode::from(code),
        // stdout is closed or full: only the exit code can report it.
        Err(_) => ExitCode::from(FAILURE),
    }
}

/// Runs the command, and turns a panic into an error: libtorch's plain operators panic when memory
/// runs out.
fn run(command: Command, bars: &MultiProgress) -> Result<Outcome> {
    panic::set_hook(Box::new(|info| match thread::current().name() {
        // A panic of the main thread is reported as the command's error.
        Some("main") => tracing::debug!("{info}"),
        _ => tracing::error!("{info}"),
    }));
    panic::catch_unwind(AssertUnwindSafe(|| commands::run(command, bars))).unwrap_or_else(|what| {
        let text = what.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| what.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(anyhow!(output::panicked(text)))
    })
}

/// Handles requested help and version, and invalid command lines.
fn not_understood(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    if error.kind() == ErrorKind::MissingRequiredArgument && text.contains("--version <") {
        output::note(WHY_VERSION);
    }
    if std::env::args_os().any(|arg| arg == OsStr::new("--json")) {
        let message = text.trim_end().trim_start_matches("error: ");
        let _ = output::json_error(message);
    }
    ExitCode::from(USAGE)
}
