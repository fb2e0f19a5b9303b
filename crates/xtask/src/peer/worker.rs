//! One side: a process that reads commands line by line and answers each with one line.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::machine;
use super::options::{Precision, Shape};
use crate::error::{Error, Result, at, failed};
use crate::python;

/// A user's settings that would make sides unequal, or make idle ones spin.
const CONTRARY: [&str; 24] = [
    "ATEN_CPU_CAPABILITY",
    "GLIBC_TUNABLES",
    "GOMP_CPU_AFFINITY",
    "GOMP_SPINCOUNT",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "LD_PRELOAD",
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_NUM_THREADS",
    "OMP_DYNAMIC",
    "OMP_PLACES",
    "OMP_PROC_BIND",
    "OMP_WAIT_POLICY",
    "ONEDNN_MAX_CPU_ISA",
    "PYTHONHOME",
    "PYTHONPATH",
    "TORCH_LOGS",
    "TORCHDYNAMO_DISABLE",
    "VD_ISA",
];
/// For this project's kernels, libtorch's, oneDNN's and MKL's, on all sides alike.
const NO_AVX512: [(&str, &str); 4] = [
    ("VD_ISA", "avx2"),
    ("ATEN_CPU_CAPABILITY", "avx2"),
    ("ONEDNN_MAX_CPU_ISA", "AVX2"),
    ("MKL_ENABLE_INSTRUCTIONS", "AVX2"),
];
/// Makes glibc take every block from its heap, never return the end of the heap, and take memory
/// from the kernel in large pieces. MALLOC_MMAP_THRESHOLD_ is not used: releases before 2.35
/// silently refuse a value above 32 MiB, and larger blocks would be fresh pages each time.
const TUNED: [(&str, &str); 3] = [
    ("MALLOC_MMAP_MAX_", "0"),
    ("MALLOC_TRIM_THRESHOLD_", "1099511627776"),
    ("MALLOC_TOP_PAD_", "268435456"),
];

/// The participants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Ours,
    /// The package with default settings.
    Eager,
    /// The package with glibc's thresholds raised.
    Tuned,
    /// The package under torch.compile.
    Compile,
}

impl Side {
    pub(super) fn name(self) -> &'static str {
        match self {
            Side::Ours => "ours",
            Side::Eager => "peer",
            Side::Tuned => "peer, tuned malloc",
            Side::Compile => "peer, torch.compile",
        }
    }
}

/// The settings with which every side of one measurement is started.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) shape: Shape,
    pub(super) train: bool,
    pub(super) avx2: bool,
    pub(super) precision: Precision,
    pub(super) threads: usize,
    /// This project's program.
    pub(super) ours: PathBuf,
    pub(super) python: PathBuf,
    pub(super) script: PathBuf,
    /// The folder of weights, inputs, the reference output, and the stderr of the sides.
    pub(super) folder: PathBuf,
}

impl Setting {
    /// The command of a side; with `draw`, that of the package's program that makes the weights.
    pub(super) fn command(&self, side: Side, draw: bool) -> Command {
        let mut command = match side {
            Side::Ours => Command::new(&self.ours),
            _ => {
                let mut python = Command::new(&self.python);
                python.arg(&self.script);
                python
            }
        };
        let Shape { dim, mults, heads, head, batch, frames, side: pixels, .. } = self.shape;
        command.args([format!("dim={dim}"), format!("mults={mults}"), format!("heads={heads}")]);
        command.args([format!("head={head}"), format!("batch={batch}")]);
        command.args([format!("frames={frames}"), format!("side={pixels}")]);
        command.arg(format!("threads={}", self.threads));
        command.arg(format!("precision={}", self.precision.name));
        command.arg(format!("train={}", u8::from(self.train)));
        command.arg(format!("folder={}", self.folder.display()));
        command.arg(if side == Side::Compile { "variant=compile" } else { "variant=eager" });
        if draw {
            command.arg("role=draw");
        }
        for name in CONTRARY {
            command.env_remove(name);
        }
        // The package imports code that can draw and download; neither must be attempted here.
        command.env("OMP_NUM_THREADS", self.threads.to_string()).env("HF_HUB_OFFLINE", "1");
        command.env("CUDA_VISIBLE_DEVICES", "").env("VD_CUDA", "off");
        if self.avx2 {
            command.envs(NO_AVX512);
        }
        if side == Side::Tuned {
            command.envs(TUNED);
        }
        if side == Side::Compile {
            // Timing reuses what checking has compiled; nothing is left in the user's /tmp.
            command.env("TORCHINDUCTOR_CACHE_DIR", self.folder.join("inductor"));
        }
        command
    }

    fn log(&self, side: Side) -> PathBuf {
        self.folder.join(machine::slug(side.name())).with_extension("log")
    }
}

/// Runs the package once to make weights, inputs and the reference output; returns the line that it
/// prints.
pub(super) fn draw(setting: &Setting) -> Result<String> {
    let log = setting.log(Side::Eager);
    let mut command = setting.command(Side::Eager, true);
    command.stdin(Stdio::null()).stderr(file(&log)?);
    let output = command.output().map_err(at("start", &setting.python))?;
    if !output.status.success() {
        return failed(format!("the package fails: {}", last_words(&log)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn file(log: &Path) -> Result<File> {
    File::create(log).map_err(at("create", log))
}

/// The last line of a side's stderr.
fn last_words(log: &Path) -> String {
    let said = fs::read_to_string(log).unwrap_or_default();
    format!("{} (its whole output: {})", python::last_line(&said), log.display())
}

/// A side that waits for commands.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) side: Side,
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Worker {
    /// Starts a side and waits until it has loaded its weights.
    pub(super) fn start(setting: &Setting, side: Side) -> Result<Self> {
        let log = setting.log(side);
        let mut command = setting.command(side, false);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file(&log)?);
        let program = PathBuf::from(command.get_program());
        let mut child = command.spawn().map_err(at("start", &program))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return failed(format!("{} has no stdin and stdout", side.name()));
        };
        let stdout = BufReader::new(stdout).lines();
        let mut worker = Worker { side, child, stdin, stdout, log };
        match worker.answer()?.as_str() {
            "ready" => Ok(worker),
            other => failed(format!("{} answered `{other}`, expected `ready`", side.name())),
        }
    }

    pub(super) fn ask(&mut self, command: &str) -> Result<String> {
        // Writing to a side that has ended fails; its output explains why.
        let _ = writeln!(self.stdin, "{command}");
        self.answer()
    }

    pub(super) fn number(&mut self, command: &str) -> Result<f64> {
        let line = self.ask(command)?;
        let number = line.parse().ok();
        number.ok_or_else(|| {
            let name = self.side.name();
            Error::Failed(format!("{name} answered `{command}` with `{line}`, expected a number"))
        })
    }

    /// Ticks of processor time up to now.
    pub(super) fn used(&self) -> u64 {
        machine::used(self.child.id())
    }

    /// Its minor page faults up to now.
    pub(super) fn faults(&self) -> u64 {
        machine::faults(self.child.id())
    }

    fn answer(&mut self) -> Result<String> {
        match self.stdout.next() {
            Some(Ok(line)) => Ok(line),
            _ => failed(format!("{} ended: {}", self.side.name(), last_words(&self.log))),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It has nothing to lose, and may be in the middle of a command.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
