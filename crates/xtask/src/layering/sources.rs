//! The rules for source files.

use super::words::{mask, words};

const LINES_ALLOWED: usize = 500;
const LINES_WANTED: usize = 300;

const MAY_BE_UNSAFE: [&str; 3] = [
    "crates/vd-torch/",
    "crates/vd-tensor-ops/src/kernels/",
    "crates/vd-tensor-ops/tests/kernels_",
];
/// Crates that contain unsafe code, so that their root cannot forbid it.
const CANNOT_FORBID: [&str; 2] = ["crates/vd-torch/", "crates/vd-tensor-ops/"];
/// Programs, whose purpose is to print.
const MAY_PRINT: [&str; 2] = ["crates/vd-cli/", "crates/xtask/"];
const PRINTING: [&str; 5] = ["println", "eprintln", "print", "eprint", "dbg"];
const SCHEDULES: &str = "crates/vd-diffusion/src/schedule";
/// Words that must not occur in a schedule, which only uses f64.
const OF_TENSORS: [&str; 3] = ["tch", "torch_sys", "Tensor"];

/// The violations in one file, and possible ones.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    pub(super) errors: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// Checks one file; `path` is relative to the root of the workspace.
pub(super) fn check(path: &str, source: &str) -> Findings {
    let mut found = Findings::default();
    let lines = source.lines().count();
    if lines > LINES_ALLOWED {
        found.errors.push(format!("{path}: {lines} lines, at most {LINES_ALLOWED} are allowed"));
    } else if lines > LINES_WANTED {
        found.warnings.push(format!("{path}: {lines} lines, should be split into two files"));
    }
    let masked = mask(source);
    let starts = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
    let is_library = path.starts_with("crates/") && path.contains("/src/") && !starts(&MAY_PRINT);
    for word in words(&masked) {
        let broken = match word.text {
            "unsafe" if !starts(&MAY_BE_UNSAFE) => "unsafe code is not allowed here",
            name if PRINTING.contains(&name) && word.next == Some('!') && is_library => {
                "a library must not print"
            }
            name if OF_TENSORS.contains(&name) && path.starts_with(SCHEDULES) => {
                "schedules use only f64"
            }
            _ => continue,
        };
        found.errors.push(format!("{path}:{}: `{}`: {broken}", word.line, word.text));
    }
    if is_root(path) && !starts(&CANNOT_FORBID) && !forbids_unsafe(&masked) {
        found.errors.push(format!("{path}: `#![forbid(unsafe_code)]` is missing"));
    }
    found
}

/// `crates/NAME/src/lib.rs` or `main.rs`
fn is_root(path: &str) -> bool {
    let mut parts = path.split('/');
    let (first, _, third) = (parts.next(), parts.next(), parts.next());
    let last = (parts.next(), parts.next());
    first == Some("crates")
        && third == Some("src")
        && matches!(last, (Some("lib.rs" | "main.rs"), None))
}

fn forbids_unsafe(masked: &str) -> bool {
    let dense: String = masked.split_whitespace().collect();
    dense.contains("#![forbid(unsafe_code)]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(path: &str, source: &str) -> usize {
        check(path, source).errors.len()
    }

    #[test]
    fn unsafe_code_stays_in_its_two_places() {
        let source = "fn f() { unsafe { g() } }";
        assert_eq!(errors("crates/vd-torch/src/cuda.rs", source), 0);
        assert_eq!(errors("crates/vd-tensor-ops/src/kernels/cpu/norm.rs", source), 0);
        for path in ["crates/vd-tensor-ops/src/pt.rs", "crates/vd-data/tests/x.rs", "examples/a.rs"]
        {
            assert_eq!(errors(path, source), 1, "{path}");
        }
    }

    #[test]
    fn libraries_do_not_print_but_programs_and_tests_may() {
        let source = "fn f() {\n    println!(\"x\");\n    dbg!(1);\n}";
        let found = check("crates/vd-train/src/run.rs", source);
        assert_eq!(found.errors.len(), 2);
        assert!(found.errors[0].starts_with("crates/vd-train/src/run.rs:2: `println`"));
        for path in [
            "crates/vd-cli/src/main/x.rs",
            "examples/a.rs",
            "crates/vd-train/tests/x.rs",
            "crates/vd-train/build.rs",
        ] {
            assert_eq!(errors(path, source), 0, "{path}");
        }
    }

    #[test]
    fn schedules_do_not_know_tensors() {
        let source = "use tch::Tensor;";
        assert_eq!(errors("crates/vd-diffusion/src/schedule/cosine.rs", source), 2);
        assert_eq!(errors("crates/vd-diffusion/src/schedule.rs", source), 2);
        assert_eq!(errors("crates/vd-diffusion/src/sampler/ddim.rs", source), 0);
        assert_eq!(
            errors("crates/vd-diffusion/src/schedule/a.rs", "/// [`tch::Tensor`]\nfn f() {}"),
            0
        );
    }

    #[test]
    fn roots_forbid_unsafe_code_in_code_not_in_a_comment() {
        assert_eq!(errors("crates/vd-data/src/lib.rs", "#![forbid( unsafe_code )]"), 0);
        assert_eq!(errors("crates/vd-data/src/lib.rs", "// #![forbid(unsafe_code)]"), 1);
        assert_eq!(errors("crates/vd-data/src/gif/lib.rs", ""), 0);
        assert_eq!(errors("crates/vd-torch/src/lib.rs", ""), 0);
        assert_eq!(errors("crates/vd-cli/src/main.rs", ""), 1);
    }

    #[test]
    fn a_file_is_warned_of_at_301_lines_and_refused_at_501() {
        let lines = |n: usize| check("examples/a.rs", &"\n".repeat(n));
        assert_eq!(lines(300), Findings::default());
        assert_eq!((lines(301).errors.len(), lines(301).warnings.len()), (0, 1));
        assert_eq!((lines(500).errors.len(), lines(501).errors.len()), (0, 1));
    }
}
