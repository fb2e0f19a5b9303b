//! `test`: every test of the workspace, then the projects downstream of it.

use crate::downstream;
use crate::error::Result;
use crate::setup;
use crate::stage;

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
        downstream::build_and_run(&libtorch)?;
    } else {
        eprintln!("xtask: arguments were given, so the downstream projects stayed out");
    }
    Ok(())
}

/// Whether the arguments of cargo (those before `--`) name packages themselves.
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
