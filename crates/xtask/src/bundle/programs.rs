//! The programs of the bundle, built and stripped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result, at, failed};
use crate::stage;

/// Programs of one package.
struct Programs {
    package: &'static str,
    /// Whether the tests within the package are among them.
    lib: bool,
    /// Names of targets.
    names: &'static [&'static str],
}

/// Tests that take their device from `vd_torch::testing`.
const TESTS: [Programs; 5] = [
    Programs { package: "vd-torch", lib: true, names: &[] },
    Programs {
        package: "vd-tensor-ops",
        lib: false,
        names: &[
            "gradients",
            "layers",
            "layers_attention",
            "layers_memory",
            "layers_relative",
            "layers_rotary",
            "layers_shift",
            "layers_temporal_conv",
            "layers_text",
            "layers_torch",
            "layers_wrap",
        ],
    },
    Programs {
        package: "vd-unet3d",
        lib: false,
        names: &[
            "autocast",
            "gradients",
            "joint",
            "options",
            "oracle",
            "oracle_paper",
            "parity",
            "properties",
            "recompute",
            "told",
        ],
    },
    Programs { package: "vd-diffusion", lib: false, names: &["golden_ancestral", "sampling"] },
    Programs { package: "vd-train", lib: false, names: &["autocast", "resume", "training"] },
];

/// What is built for speed, by one call, since the features of a crate depend on what is built beside
/// it: benchmarks that take their device from there too, `vd`, and our side of the comparison.
const FAST: [(&str, &str, &str); 5] = [
    ("vd-tensor-ops", "--bench", "layers"),
    ("vd-unet3d", "--bench", "unet3d"),
    ("vd-benches", "--bench", "steps"),
    ("vd-cli", "--bin", "vd"),
    ("vd-train", "--example", "bench_steps"),
];

/// Builds everything and puts it into `bin`: `tests/PACKAGE/NAME`, `benches/PACKAGE/NAME` and, by
/// themselves, `vd` and our side of the comparison.
pub(super) fn collect(libtorch: &Path, bin: &Path) -> Result<()> {
    for Programs { package, lib, names } in &TESTS {
        let mut cargo = stage::cargo(libtorch)?;
        cargo.args(["test", "-p", package]);
        if *lib {
            cargo.arg("--lib");
        }
        cargo.args(names.iter().flat_map(|name| ["--test", name]));
        let built = build(&format!("build {package}: tests"), &mut cargo)?;
        let expected = names.len() + usize::from(*lib);
        if built.len() != expected {
            let found = built.len();
            return failed(format!("{package}: cargo names {found} tests, not {expected}"));
        }
        for program in built {
            strip(&program, &bin.join("tests").join(package).join(name_of(&program)))?;
        }
    }
    let mut cargo = stage::cargo(libtorch)?;
    cargo.arg("bench");
    for (package, flag, name) in FAST {
        cargo.args(["-p", package, flag, name]);
    }
    let built = build("build benches, vd and our side of the comparison", &mut cargo)?;
    for (package, flag, name) in FAST {
        let Some(program) = built.iter().find(|program| name_of(program) == name) else {
            return failed(format!("{package}: cargo names no program {name}"));
        };
        let to = match flag {
            "--bench" => bin.join("benches").join(package).join(name),
            _ => bin.join(name),
        };
        strip(program, &to)?;
    }
    Ok(())
}

/// Runs cargo, and gives the programs that it names.
fn build(heading: &str, cargo: &mut Command) -> Result<Vec<PathBuf>> {
    cargo.args(["--no-run", "--message-format=json-render-diagnostics"]);
    cargo.stderr(Stdio::inherit());
    stage::timed(heading, || {
        let output = cargo.output().map_err(|e| Error::Failed(format!("cannot run cargo: {e}")))?;
        if !output.status.success() {
            return failed(format!("`{heading}` failed ({})", output.status));
        }
        Ok(executables(&String::from_utf8_lossy(&output.stdout)))
    })
}

/// The programs that cargo's messages name: one message a line, one program in it at most.
fn executables(messages: &str) -> Vec<PathBuf> {
    let named = messages.lines().filter_map(|line| {
        let (_, after) = line.split_once("\"executable\":\"")?;
        after.split('"').next().map(PathBuf::from)
    });
    named.collect()
}

/// `layers-0123456789abcdef` is `layers`.
fn name_of(program: &Path) -> String {
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match name.rsplit_once('-') {
        Some((start, hash)) if hash.len() == 16 => start.to_owned(),
        _ => name,
    }
}

/// Copies a program without its symbols.
fn strip(program: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(at("create", folder))?;
    }
    let done = Command::new("strip").arg("-o").arg(to).arg(program).status();
    match done {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => failed(format!("strip of {} failed ({status})", program.display())),
        Err(e) => failed(format!("cannot start strip, a part of binutils: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_among_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
                        {\"reason\":\"compiler-artifact\",\"executable\":\"/t/deps/a-0123456789abcdef\",\"fresh\":true}\n\
                        {\"reason\":\"build-finished\",\"success\":true}\n";
        let found = executables(messages);
        assert_eq!(found, [PathBuf::from("/t/deps/a-0123456789abcdef")]);
        assert_eq!(name_of(&found[0]), "a");
        assert_eq!(name_of(Path::new("/t/vd-cli")), "vd-cli");
    }
}
