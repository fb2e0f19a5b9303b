//! The programs of the bundle, built and stripped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result, at, failed};
use crate::stage;

/// Programs of one package.
struct Programs {
    package: &'static str,
    /// Names of targets.
    names: &'static [&'static str],
}

/// Tests that get their device from `vd_torch::testing`.
const TESTS: [Programs; 5] = [
    Programs { package: "vd-torch", names: &["kept", "recordings", "transfer"] },
    Programs {
        package: "vd-tensor-ops",
        names: &[
            "gradients",
            "kernels_cuda",
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
        names: &[
            "autocast",
            "gradients",
            "graphs",
            "joint",
            "kept",
            "options",
            "oracle",
            "oracle_paper",
            "parity",
            "properties",
            "recompute",
            "told",
            "told_apart",
        ],
    },
    Programs { package: "vd-diffusion", names: &["golden_ancestral", "sampling"] },
    Programs {
        package: "vd-train",
        names: &[
            "autocast",
            "behind",
            "device_step",
            "graphs",
            "joint",
            "resume",
            "signals",
            "training",
            "uncertainty",
        ],
    },
];

/// Programs built for speed: benchmarks that get their device from there too, `vd`, and our side of
/// the comparison.
const FAST: [(&str, &str, &str); 6] = [
    ("vd-tensor-ops", "--bench", "kernels_gpu"),
    ("vd-tensor-ops", "--bench", "layers"),
    ("vd-unet3d", "--bench", "unet3d"),
    ("vd-benches", "--bench", "steps"),
    ("vd-cli", "--bin", "vd"),
    ("vd-train", "--example", "bench_steps"),
];

/// Builds everything and copies it to `bin`: `tests/PACKAGE/NAME`, `benches/PACKAGE/NAME` and, at
/// the top level, `vd` and our side of the comparison.
///
/// Each kind is built for the whole workspace, as the tests and the checks do: the features of a
/// crate depend on what is built with it, and so nothing is built twice.
pub(super) fn collect(libtorch: &Path, bin: &Path) -> Result<()> {
    let mut cargo = stage::cargo(libtorch)?;
    cargo.args(["test", "--no-run", "--workspace"]);
    cargo.args(TESTS.iter().flat_map(|p| p.names).flat_map(|name| ["--test", name]));
    let built = build("build the bundle's tests", &mut cargo)?;
    for Programs { package, names } in &TESTS {
        for name in *names {
            let to = bin.join("tests").join(package).join(name);
            strip(find(&built, package, name)?, &to)?;
        }
    }
    let mut cargo = stage::cargo(libtorch)?;
    cargo.args(["build", "--release", "--workspace"]);
    cargo.args(FAST.iter().flat_map(|(_, flag, name)| [flag, name]));
    let built = build("build benches, vd and our side of the comparison", &mut cargo)?;
    for (package, flag, name) in FAST {
        let to = match flag {
            "--bench" => bin.join("benches").join(package).join(name),
            _ => bin.join(name),
        };
        strip(find(&built, package, name)?, &to)?;
    }
    Ok(())
}

/// A program that cargo has built.
#[derive(Debug, PartialEq)]
struct Program {
    package: String,
    name: String,
    path: PathBuf,
}

fn find<'a>(built: &'a [Program], package: &str, name: &str) -> Result<&'a Path> {
    let found = built.iter().find(|program| program.package == package && program.name == name);
    match found {
        Some(program) => Ok(&program.path),
        None => failed(format!("{package}: cargo built no program {name}")),
    }
}

/// Runs cargo, and returns the programs that it reports.
fn build(heading: &str, cargo: &mut Command) -> Result<Vec<Program>> {
    cargo.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    stage::timed(heading, || {
        let output = cargo.output().map_err(|e| Error::Failed(format!("cannot run cargo: {e}")))?;
        if !output.status.success() {
            return failed(format!("`{heading}` failed ({})", output.status));
        }
        Ok(programs(&String::from_utf8_lossy(&output.stdout)))
    })
}

/// The programs in cargo's messages: one message per line, with at most one program.
fn programs(messages: &str) -> Vec<Program> {
    let named = messages.lines().filter_map(|line| {
        let text = |start: &str| line.split_once(start)?.1.split('"').next();
        let path = PathBuf::from(text("\"executable\":\"")?);
        // from the path in `path+file:///PATH#NAME@VERSION`, or `#VERSION` if the folder has the
        // name
        let (folder, after) = text("\"package_id\":\"")?.split_once('#')?;
        let package = match after.split_once('@') {
            Some((name, _)) => name,
            None => folder.rsplit('/').next()?,
        };
        let (_, target) = line.split_once("\"target\":")?;
        let name = target.split_once("\"name\":\"")?.1.split('"').next()?;
        Some(Program { package: package.to_owned(), name: name.to_owned(), path })
    });
    named.collect()
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
        Err(e) => failed(format!("could not start strip (part of binutils): {e}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::paths;

    /// Text in the tests that get their device from outside.
    const MARKS: [&str; 3] = ["testing::device", "testing::choice", "VD_TEST_DEVICE"];

    /// The integration tests of a package, by name.
    fn tests_of(package: &str) -> Vec<(String, PathBuf)> {
        let folder = paths::root().unwrap().join("crates").join(package).join("tests");
        let mut all = Vec::new();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            if path.extension().is_some_and(|end| end == "rs") {
                all.push((stem, path));
            } else if path.join("main.rs").is_file() {
                all.push((stem, path.join("main.rs")));
            }
        }
        all
    }

    #[test]
    fn every_test_that_takes_its_device_from_the_variable_is_in_the_bundle_and_there() {
        let folder = paths::root().unwrap().join("crates");
        let packages: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|package| package != "xtask")
            .collect();
        let mut left: BTreeSet<(String, String)> = TESTS
            .iter()
            .flat_map(|of| of.names.iter().map(|name| (of.package.to_owned(), (*name).to_owned())))
            .collect();
        for package in &packages {
            for (name, path) in tests_of(package) {
                let text = fs::read_to_string(path).unwrap();
                // Both forms of an import: alone, and in a list of names.
                let text = text
                    .replace("testing::{self, ", "testing::")
                    .replace("testing::{", "testing::");
                let takes = MARKS.iter().any(|mark| text.contains(mark));
                let listed = left.remove(&(package.clone(), name.clone()));
                assert!(listed || !takes, "{package} {name} is not in the bundle");
            }
        }
        assert!(left.is_empty(), "no such tests: {left:?}");
    }

    #[test]
    fn what_is_built_for_speed_is_there() {
        let crates = paths::root().unwrap();
        for (package, flag, name) in FAST {
            let folder = match package {
                "vd-benches" => crates.join("benches"),
                _ => crates.join("crates").join(package),
            };
            let file = match flag {
                "--bench" if package == "vd-benches" => folder.join(format!("{name}.rs")),
                "--bench" => folder.join("benches").join(format!("{name}.rs")),
                "--example" => folder.join("examples").join(name).join("main.rs"),
                _ => folder.join("src/main.rs"),
            };
            assert!(file.is_file(), "{package} {flag} {name}");
            let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
            let told = flag == "--example" || manifest.contains(&format!("name = \"{name}\""));
            assert!(told, "{package} says nothing of {name}");
        }
    }

    #[test]
    fn programs_are_found_among_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
                        {\"reason\":\"compiler-artifact\",\"package_id\":\"path+file:///w/crates/vd-a#0.1.0\",\
                        \"target\":{\"kind\":[\"lib\"],\"name\":\"vd_a\"},\"executable\":\"/t/deps/vd_a-01\"}\n\
                        {\"reason\":\"compiler-artifact\",\"package_id\":\"path+file:///w/benches#vd-b@0.1.0\",\
                        \"target\":{\"kind\":[\"bench\"],\"name\":\"s\"},\"executable\":\"/t/s\"}\n\
                        {\"reason\":\"build-finished\",\"success\":true}\n";
        let found = programs(messages);
        let paths =
            [("vd-a", "vd_a"), ("vd-b", "s")].map(|(package, name)| find(&found, package, name));
        assert_eq!(paths, [Ok(Path::new("/t/deps/vd_a-01")), Ok(Path::new("/t/s"))]);
        assert!(find(&found, "vd-a", "s").is_err());
    }
}
