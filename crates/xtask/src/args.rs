//! The command line.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::peer;

pub(crate) const HELP: &str = "\
Usage: cargo xtask TASK

  setup [--cuda] [--nvrtc] [--dir DIR] [--print-env]
                 finds libtorch 2.11.0 (LIBTORCH, an active virtual environment, .libtorch, the
                 cache) or installs it with pip, and links it as .libtorch
      --cuda       the full set of wheels, CUDA libraries included (about 5 GB)
      --nvrtc      also the compiler of CUDA kernels (NVRTC)
      --dir DIR    installs in DIR instead of the cache
      --print-env  prints the lines that your own project needs
  test [ARGS..]  sets up if needed, then runs every test of the workspace, the examples and the
                 downstream projects; ARGS are passed to `cargo test` and skip the latter two
  demo [ARGS..]  sets up if needed, then builds and runs the demo; ARGS are passed to the demo
  bench-peer [--shapes A,B] [--train] [--pairs N] [--runs N] [--threads N] [--compile]
      [--python FILE] [--precision P] [--avx2] [--name NAME] [--json]
                 times the network against video-diffusion-pytorch's with the same weights, in
                 alternation; after every shape writes docs/benchmarks/cpu-NAME.json and, as a
                 table, cpu-NAME.md; finally prints the table
      --shapes     of b1f5s32, b4f5s32, b1f16s64 (the default: these three), small
      --train      forward and backward instead of only forward
      --pairs N    alternating runs of each side (11)
      --runs N     repeats all shapes in new processes and reports the medians (1)
      --threads N  threads of each side (one per core)
      --compile    adds torch.compile as a third opponent, beside the plain one and the one with a
                   tuned allocator (needs g++, or the C++ compiler that CXX names)
      --precision P  of our kernels: f32 (the default), exact, reference, bf16 (forward only: single
                   gradients exceed their bound of 2e-3, with 4.6e-3 at b1f5s32)
      --avx2       disables AVX-512 on both sides
      --python FILE  a Python that has the package (also: VD_PEER_PYTHON); by default an environment
                   is created under target/ (a download of about 2.5 GB, 5 GB of disk)
      --name NAME  the NAME of the files (default: the processor's)
      --json       prints the JSON instead of the table
  gpu-bundle --out DIR
                 tests, benches, `vd` and the comparison with video-diffusion-pytorch for a machine
                 with a GPU and a Python with torch 2.11.0, but without Rust or network: DIR/run.sh
                 runs them there (docs/gpu.md)
  growth [DIM]   measures how time, memory and operations grow with frames, side and batch (dim 64);
                 writes docs/benchmarks/growth.json and growth-*.svg; takes minutes
  asan           runs the kernel tests under AddressSanitizer, built in a separate folder
  kernels        compiles the GPU kernels for every GPU generation (no GPU needed) and reports the
                 registers of each; downloads the compiler (90 MB) if libtorch came without it
  check          formatting, clippy, documentation, benches, layering, the GPU kernels and the GPU
                 bundle; also cargo-deny and the feature libav where these are installed
  layering       checks crate dependencies and the rules for source files
  downstream     builds and runs one generated project per public crate, outside this folder
  help           this text

Exit code: 0 success, 1 failure, 2 wrong usage.";

/// What one call does.
#[derive(Debug, PartialEq)]
pub(crate) enum Task {
    Help,
    Setup(SetupOptions),
    Test(Vec<String>),
    Demo(Vec<String>),
    BenchPeer(peer::Options),
    GpuBundle(PathBuf),
    Growth(Vec<String>),
    Asan,
    Check,
    Kernels,
    Layering,
    Downstream,
}

/// The flags of `setup`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SetupOptions {
    pub(crate) cuda: bool,
    pub(crate) nvrtc: bool,
    pub(crate) dir: Option<PathBuf>,
    pub(crate) print_env: bool,
}

pub(crate) fn parse(args: &[String]) -> Result<Task> {
    let Some((task, rest)) = args.split_first() else {
        return usage("no task given");
    };
    if rest.first().is_some_and(|a| a == "--help" || a == "-h") {
        return Ok(Task::Help);
    }
    let alone = |done: Task| match rest.first() {
        None => Ok(done),
        Some(extra) => usage(format!("`{task}` takes no arguments, got `{extra}`")),
    };
    match task.as_str() {
        "help" | "--help" | "-h" => Ok(Task::Help),
        "setup" => setup(rest).map(Task::Setup),
        "test" => Ok(Task::Test(rest.to_vec())),
        "demo" => Ok(Task::Demo(rest.to_vec())),
        "bench-peer" => peer::Options::parse(rest).map(Task::BenchPeer),
        "gpu-bundle" => gpu_bundle(rest).map(Task::GpuBundle),
        "growth" => Ok(Task::Growth(rest.to_vec())),
        "asan" => alone(Task::Asan),
        "check" => alone(Task::Check),
        "kernels" => alone(Task::Kernels),
        "layering" => alone(Task::Layering),
        "downstream" => alone(Task::Downstream),
        _ => usage(format!("unknown task `{task}`")),
    }
}

fn setup(args: &[String]) -> Result<SetupOptions> {
    let mut options = SetupOptions::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--cuda" => options.cuda = true,
            "--nvrtc" => options.nvrtc = true,
            "--print-env" => options.print_env = true,
            "--dir" => match args.next() {
                Some(dir) if !dir.is_empty() && !dir.starts_with("--") => {
                    options.dir = Some(dir.into());
                }
                _ => return usage("`--dir` expects a directory"),
            },
            _ => match arg.strip_prefix("--dir=") {
                Some(dir) if !dir.is_empty() => options.dir = Some(dir.into()),
                _ => return usage(format!("`setup` has no option `{arg}`")),
            },
        }
    }
    Ok(options)
}

fn gpu_bundle(args: &[String]) -> Result<PathBuf> {
    let given = match args {
        [flag, dir] if flag == "--out" => Some(dir.as_str()),
        [joined] => joined.strip_prefix("--out="),
        _ => None,
    };
    match given.filter(|dir| !dir.is_empty() && !dir.starts_with("--")) {
        // Where cargo was called, not the root of the workspace.
        Some(dir) => std::path::absolute(dir).or_else(|e| usage(format!("`--out {dir}`: {e}"))),
        None => usage("`gpu-bundle` takes exactly `--out DIR`"),
    }
}

fn usage<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::Usage(message.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Task> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&args)
    }

    #[test]
    fn setup_takes_its_flags_in_any_order() {
        let wanted =
            SetupOptions { cuda: true, nvrtc: true, dir: Some("/a/b".into()), print_env: true };
        for line in [
            "setup --cuda --nvrtc --dir /a/b --print-env",
            "setup --print-env --dir=/a/b --nvrtc --cuda",
        ] {
            assert!(matches!(parsed(line), Ok(Task::Setup(got)) if got == wanted));
        }
    }

    #[test]
    fn what_follows_test_and_demo_is_passed_through_untouched() {
        let wanted = ["-p", "vd-data", "--", "--nocapture"].map(str::to_owned);
        let got = parsed("test -p vd-data -- --nocapture");
        assert_eq!(got, Ok(Task::Test(wanted.to_vec())));
    }

    #[test]
    fn wrong_usage_is_told_from_failure() {
        for line in [
            "",
            "tset",
            "setup --gpu",
            "setup --dir",
            "setup --dir --cuda",
            "check x",
            "asan x",
            "gpu-bundle",
            "gpu-bundle x",
            "gpu-bundle --out",
            "gpu-bundle --out --x",
        ] {
            assert!(matches!(parsed(line), Err(Error::Usage(_))), "{line}");
        }
    }

    #[test]
    fn help_is_never_an_error() {
        for line in ["help", "--help", "-h", "setup --help", "test -h"] {
            assert_eq!(parsed(line), Ok(Task::Help), "{line}");
        }
    }
}
