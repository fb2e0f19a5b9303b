//! `cargo xtask`: sets up the machine, runs the tests, the demo, the checks and the speed
//! measurements.
//!
//! It depends only on the standard library, so that it builds on a machine that has no libtorch
//! yet. Reports are written to stderr; stdout carries only requested output.

#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the one program whose output is its purpose"
)]

mod args;
mod asan;
mod bundle;
mod check;
mod demo;
mod disk;
mod downstream;
mod error;
mod find;
mod growth;
mod install;
mod kernels;
mod layering;
mod libav;
mod paths;
mod peer;
mod pip;
mod python;
mod setup;
mod stage;
mod test;

use std::process::ExitCode;

use args::Task;
use error::{Error, Result};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args::parse(&args).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Usage(message)) => {
            eprintln!("xtask: {message}\n\n{}", args::HELP);
            ExitCode::from(2)
        }
        Err(Error::Failed(message)) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Help => {
            println!("{}", args::HELP);
            Ok(())
        }
        Task::Setup(options) => setup::run(&options),
        Task::Test(args) => test::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::BenchPeer(options) => peer::run(&options),
        Task::GpuBundle(out) => bundle::run(&out),
        Task::Growth(args) => growth::run(&args),
        Task::Asan => asan::run(),
        Task::Check => check::run(),
        Task::Kernels => kernels::run(),
        Task::Downstream => downstream::run(),
        Task::Layering => layering::run(),
    }
}
