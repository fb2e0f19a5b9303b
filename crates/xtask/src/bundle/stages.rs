//! Tests the bundle's scripts, with programs that only print what tests and benches print.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::SCRIPTS;
use crate::paths;

/// A folder that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(dir.join("out")).unwrap();
        Scratch(dir)
    }

    fn write(&self, name: &str, text: &str) {
        let file = self.0.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join("out").join(name)).unwrap_or_default()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn scripts() -> PathBuf {
    paths::root().unwrap().join(SCRIPTS)
}

/// Runs one of the stages of `bundle.py`, if there is a Python.
fn stage(scratch: &Scratch, name: &str, seconds: &str) -> Option<String> {
    let python = paths::which("python3")?;
    let mut command = Command::new(python);
    command.arg("-B").arg(scripts().join("bundle.py")).args([name, seconds]);
    command.env("VD_BUNDLE", &scratch.0).env("VD_BUNDLE_OUT", scratch.0.join("out"));
    let output = command.env("VD_BUNDLE_DEVICE", "cpu").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name}: {said}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_scripts_are_scripts() {
    let bash = Command::new("bash").arg("-n").arg(scripts().join("run.sh")).status().unwrap();
    assert!(bash.success());
    let Some(python) = paths::which("python3") else { return };
    for script in ["bundle.py", "child.py", "package.py", "peer.py"] {
        let compile = "import ast, sys; ast.parse(open(sys.argv[1]).read())";
        let mut command = Command::new(&python);
        let ended = command.args(["-c", compile]).arg(scripts().join(script)).status().unwrap();
        assert!(ended.success(), "{script}");
    }
}

#[test]
fn a_side_that_takes_too_long_is_ended_and_one_without_time_is_not_begun() {
    let Some(python) = paths::which("python3") else { return };
    // The one that is ended leaves a program behind, which goes on.
    let program = r#"
import sys, time
sys.path.insert(0, sys.argv[1])
import child
begun = time.monotonic()
try:
    child.run_within(1, ["sh", "-c", "sleep 4 & exec sleep 60"], stdout=-1, stderr=-1)
except RuntimeError as error:
    print(error)
print("soon" if time.monotonic() - begun < 3 else "late")
print(child.run_within(30, ["sh", "-c", "exit 7"]).returncode)
print(child.limit_of(60, time.monotonic() + 300), round(child.limit_of(60, time.monotonic() + 50)))
try:
    child.limit_of(60, time.monotonic() + 12)
except child.Out:
    print("out")
"#;
    let mut command = Command::new(python);
    let output = command.args(["-B", "-c", program]).arg(scripts()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said, "not done within 1 s\nsoon\n7\n60 45\nout\n", "{output:?}");
}

#[test]
fn a_summary_tells_of_every_program_that_ran_or_did_not() {
    let scratch = Scratch::new("stages");
    let good = "echo 'test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured'";
    let bad = "echo 'test one::two ... FAILED'\n\
               echo 'test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured'; exit 101";
    let script = |text: &str| format!("#!/bin/sh\n{text}\n");
    scratch.write("bin/tests/a/good", &script(good));
    scratch.write("bin/tests/a/bad", &script(bad));
    scratch.write("bin/tests/b/slow", &script("exec sleep 60"));
    let kernels = r#"[ "$1" = --json ] || exit 3
        echo '{"device": "Cpu", "copy_bytes_per_s": 3e12, "target": 0.75, "kernels": [{"kernel":
        "rms norm", "way": "forward", "dtype": "bf16", "shape": "1x2", "us": 2.5, "host_us": 1,
        "bytes": 5, "bytes_per_s": 2e6, "of_copy": 0.5}]}' > "$2""#;
    scratch.write("bin/benches/t/kernels_gpu", &script(kernels));
    let criterion = r#"mkdir -p "$CRITERION_HOME/x/new"
        echo '{"full_id": "layer/forward"}' > "$CRITERION_HOME/x/new/benchmark.json"
        echo '{"median": {"point_estimate": 2e6, "confidence_interval": {"lower_bound": 1e6,
        "upper_bound": 3e6}}}' > "$CRITERION_HOME/x/new/estimates.json""#;
    scratch.write("bin/benches/t/layers", &script(criterion));
    scratch.write(
        "out/peer.json",
        r#"{"ceilings": {"copy_bytes_per_s": 3e12, "bf16_flops_per_s": 8e14, "tf32_flops_per_s": 4e14,
        "f32_flops_per_s": 5e13}, "cases": [{"work": "sample", "dtype": "bf16", "ours_ms": 4.0,
        "floors_ms": {"memory": 1.0, "arithmetic": 1.5, "larger": 2.0}, "sides": [
        {"side": "ours", "median_ms": 4.0, "peak_reserved": 2000000000},
        {"side": "peer, eager", "median_ms": 12.0}, {"side": "peer, compile", "error": "no time left"}]}]}"#,
    );
    if stage(&scratch, "tests", "8").is_none() {
        eprintln!("left out: there is no python3");
        return;
    }
    stage(&scratch, "benches", "20");
    let said = stage(&scratch, "summary", "0").unwrap();
    assert_eq!(said, scratch.read("summary.txt"));
    for part in [
        "tests: 1 of 3 programs pass, 4 tests",
        "a bad: exit code 101 one::two",
        "b slow: out of time",
        "kernels: 0 of 1 reach 75 % of a copy's 3000 GB/s",
        "layer/forward",
        "floors 1.00 of memory, 1.50 of arithmetic, 2.00 by layers",
        "no time left",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let of = |side: &str| -> Vec<String> {
        let line = said.lines().find(|line| line.trim_start().starts_with(side)).unwrap();
        line.trim_start().trim_start_matches(side).split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(of("ours"), ["4.00", "1.00", "2.0", "2.00"]);
    assert_eq!(of("peer, eager"), ["12.00", "3.00", "6.0", "-"]);
    let kept =
        ["tests.json", "tests.log", "benches.json", "benches.log", "peer.json", "summary.txt"];
    let mut files: Vec<_> = fs::read_dir(scratch.0.join("out")).unwrap().flatten().collect();
    files.retain(|file| !kept.contains(&file.file_name().to_string_lossy().as_ref()));
    assert!(files.is_empty(), "{files:?}");
    assert!(Path::new(&scratch.0).exists());
}
