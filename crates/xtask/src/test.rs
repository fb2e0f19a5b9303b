//! `test`: every test of the workspace, then the examples and the downstream projects.

use std::fs;
use std::process::Command;

use crate::downstream;
use crate::error::{Result, at};
use crate::setup;
use crate::stage;

/// One for each library crate; the demo, which takes minutes, is a separate task.
const EXAMPLES: [&str; 7] =
    ["torch", "tensor_ops", "unet3d", "diffusion", "text_cond", "data", "train"];

pub(crate) fn run(args: &[String]) -> Result<()> {
    let libtorch = setup::ensure()?;
    let mut tests = stage::cargo(&libtorch)?;
    tests.arg("test");
    if !chooses_packages(args) {
        tests.arg("--workspace");
    }
    tests.args(args);
    stage::run(format!("cargo test {}", args.join(" ")).trim_end(), &mut tests)?;
    if args.is_empty() {
        run_examples()?;
        downstream::build_and_run(&libtorch)?;
    } else {
        eprintln!("xtask: arguments were given: the examples and downstream projects were skipped");
    }
    Ok(())
}

/// Runs each example, as `cargo test` has built it, in a new temporary folder without files of
/// earlier runs.
fn run_examples() -> Result<()> {
    let target = downstream::target_dir()?;
    let scratch = target.join("examples-scratch");
    for example in EXAMPLES {
        if scratch.exists() {
            fs::remove_dir_all(&scratch).map_err(at("remove", &scratch))?;
        }
        fs::create_dir_all(&scratch).map_err(at("create", &scratch))?;
        let mut program = Command::new(target.join("debug/examples").join(example));
        stage::run(&format!("example {example}"), program.env("TMPDIR", &scratch))?;
    }
    fs::remove_dir_all(&scratch).map_err(at("remove", &scratch))
}

/// Whether the arguments of cargo (those before `--`) name packages.
fn chooses_packages(args: &[String]) -> bool {
    let of_cargo = args.iter().take_while(|arg| *arg != "--");
    of_cargo.into_iter().any(|arg| {
        arg.starts_with("-p") || arg.starts_with("--package") || arg.starts_with("--manifest-path")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_on_the_command_line_replaces_the_whole_workspace() {
        let args = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert!(chooses_packages(&args("-p vd-data --lib")));
        assert!(chooses_packages(&args("--package=vd-data")));
        assert!(!chooses_packages(&args("--release -- -p")));
    }
}
