//! `vd doctor`: reports what vd finds on this machine.

mod cuda;

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;
use vd_data::Ffmpeg;
use vd_tensor_ops::kernels::cpu::Isa;

use crate::logging;
use crate::output::{Outcome, bytes};
use cuda::Cuda;

/// The project's own folder in the user's cache.
const CACHE: &str = "video-diffusion";

/// The variables that vd reads.
const KNOWN: [&str; 10] = [
    "VD_CUDA",
    "VD_FFMPEG",
    "VD_FFPROBE",
    "VD_ISA",
    "VD_KERNELS",
    "VD_KERNEL_CACHE",
    "VD_LIBAV",
    "VD_NVRTC",
    "VD_TEST_DEVICE",
    logging::VARIABLE,
];
/// Variables of other programs that affect vd.
const FOREIGN: [&str; 7] = [
    "LIBTORCH",
    "LD_LIBRARY_PATH",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "XDG_CACHE_HOME",
    "NO_COLOR",
];

#[derive(Debug, Serialize)]
struct Report {
    vd: &'static str,
    machine: Machine,
    threads: usize,
    libtorch: Libtorch,
    cuda: Cuda,
    ffmpeg: Films,
    cache: Option<Cache>,
    variables: BTreeMap<String, String>,
    /// Problems that vd has here, and how to fix them.
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Machine {
    os: String,
    arch: &'static str,
    cpu: Option<String>,
    cores: usize,
    /// The instruction set that the CPU's kernels use.
    instructions: String,
    memory_bytes: Option<u64>,
    available_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Libtorch {
    /// The release that vd was built for.
    expected: &'static str,
    /// The version that the installation reports.
    found: Option<String>,
    /// The folder of the library that this process has loaded.
    path: Option<PathBuf>,
    /// Whether it was built with CUDA.
    cuda: bool,
    /// How it was found.
    from: String,
}

/// What reads and writes MP4 and similar formats.
#[derive(Debug, Serialize)]
struct Films {
    version: Option<&'static str>,
    path: Option<&'static Path>,
    reason: Option<&'static str>,
    /// Whether they are read without the programs.
    libav: bool,
}

#[derive(Debug, Serialize)]
struct Cache {
    path: PathBuf,
    exists: bool,
}

pub(crate) fn run() -> Result<Outcome> {
    let mut problems = Vec::new();
    let mut cuda = cuda::cuda(&mut problems);
    problems.extend(Isa::named().err().map(|error| error.to_string()));
    let runs = problems.is_empty();
    let libtorch = libtorch();
    cuda.remedy = cuda::remedy(&cuda, libtorch.cuda);
    if let Some(found) = libtorch.found.as_deref().filter(|v| !is_release(v, libtorch.expected)) {
        problems.push(format!(
            "libtorch is {found}, but vd was built for {}: run `cargo xtask setup`",
            libtorch.expected
        ));
    }
    let variables = variables();
    for name in variables.keys().filter(|name| is_unknown(name)) {
        problems.push(format!(
            "{name} is set, but is not one of the variables that vd reads: {}",
            KNOWN.join(", ")
        ));
    }
    let report = Report {
        vd: env!("CARGO_PKG_VERSION"),
        machine: machine(),
        threads: vd_torch::threads(),
        libtorch,
        cuda,
        ffmpeg: ffmpeg(),
        cache: cache(),
        variables,
        problems,
    };
    Ok(Outcome::new(&report, describe(&report)?)?.with_success(runs))
}

fn ffmpeg() -> Films {
    let libav = vd_data::films_through_libav();
    match Ffmpeg::find() {
        Ok(Ffmpeg { ffmpeg, version, .. }) => {
            Films { version: Some(version), path: Some(ffmpeg), reason: None, libav }
        }
        Err(why) => Films { version: None, path: None, reason: Some(why), libav },
    }
}

fn libtorch() -> Libtorch {
    let path = vd_torch::libtorch_dir();
    let found = vd_torch::loaded_version();
    let from = match &path {
        None => "not found among the libraries loaded by this process".to_owned(),
        Some(path) => origin(path),
    };
    let cuda = path.as_ref().is_some_and(|path| path.join("libtorch_cuda.so").exists());
    Libtorch { expected: vd_torch::version(), found, path, cuda, from }
}

/// `2.11.0` and `2.11.0+cpu` are the same release.
fn is_release(found: &str, expected: &str) -> bool {
    found.split('+').next() == Some(expected)
}

fn origin(lib: &Path) -> String {
    let same = |other: &Path| fs::canonicalize(other).ok() == fs::canonicalize(lib).ok();
    for (variable, below) in [("LIBTORCH", "lib"), ("VIRTUAL_ENV", "")] {
        let Some(root) = env::var_os(variable).map(PathBuf::from) else { continue };
        let inside = fs::canonicalize(&root).is_ok_and(|root| lib.starts_with(root));
        if same(&root.join(below)) || inside {
            return format!("{variable} = {}", root.display());
        }
    }
    let given = env::var("LD_LIBRARY_PATH").unwrap_or_default();
    if env::split_paths(&given).any(|folder| !folder.as_os_str().is_empty() && same(&folder)) {
        return "LD_LIBRARY_PATH".to_owned();
    }
    match cache().filter(|cache| lib.starts_with(&cache.path)) {
        Some(cache) => format!("installed by `cargo xtask setup` in {}", cache.path.display()),
        None => "the path linked into vd when it was built".to_owned(),
    }
}

fn cache() -> Option<Cache> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || absolute("HOME").map(|home| home.join(".cache"));
    let path = absolute("XDG_CACHE_HOME").or_else(home)?.join(CACHE);
    Some(Cache { exists: path.is_dir(), path })
}

fn machine() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let kilobytes = |key: &str| {
        let value = memory.lines().find_map(|line| line.strip_prefix(key))?;
        Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    };
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let os = read("/etc/os-release");
    let os = os.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    Machine {
        os: os.map_or(env::consts::OS.to_owned(), |name| name.trim_matches('"').to_owned()),
        arch: env::consts::ARCH,
        cpu: cpu.map(|name| name.trim_start_matches(['\t', ' ', ':']).to_owned()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        instructions: Isa::current().to_string(),
        memory_bytes: kilobytes("MemTotal:"),
        available_bytes: kilobytes("MemAvailable:"),
    }
}

fn variables() -> BTreeMap<String, String> {
    env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with("VD_") || FOREIGN.contains(&name.as_str()))
        .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
        .collect()
}

fn is_unknown(name: &str) -> bool {
    name.starts_with("VD_") && !KNOWN.contains(&name)
}

fn describe(report: &Report) -> Result<String> {
    let mut out = String::new();
    let machine = &report.machine;
    writeln!(out, "vd         {}", report.vd)?;
    writeln!(out, "machine    {} on {}", machine.os, machine.arch)?;
    let cpu = machine.cpu.as_deref().unwrap_or("unknown CPU");
    writeln!(out, "           {cpu}, {} cores for vd", machine.cores)?;
    writeln!(out, "           kernels use {}", machine.instructions)?;
    if let (Some(all), Some(free)) = (machine.memory_bytes, machine.available_bytes) {
        writeln!(out, "           {} of memory, {} free", bytes(all), bytes(free))?;
    }
    writeln!(out, "threads    {} in libtorch's operators", report.threads)?;
    let torch = &report.libtorch;
    let found = torch.found.as_deref().unwrap_or("unknown");
    let part = if torch.cuda { "with" } else { "without" };
    writeln!(out, "libtorch   {found} (built for {}), {part} a part for CUDA", torch.expected)?;
    if let Some(path) = &torch.path {
        writeln!(out, "           {}", path.display())?;
    }
    writeln!(out, "           from: {}", torch.from)?;
    cuda::describe(&mut out, &report.cuda)?;
    match (&report.ffmpeg, report.ffmpeg.path) {
        (Films { version: Some(version), .. }, Some(path)) => {
            writeln!(out, "ffmpeg     {version} ({})", path.display())?;
        }
        (films, _) => {
            let why = films.reason.unwrap_or_default();
            let lost = if films.libav {
                "MP4 cannot be written"
            } else {
                "MP4 and similar files cannot be read"
            };
            writeln!(out, "ffmpeg     not used: {why}; without it {lost}")?;
        }
    }
    if report.ffmpeg.libav {
        writeln!(out, "libav      built in, reads MP4 and similar files")?;
    }
    if let Some(cache) = &report.cache {
        let note = if cache.exists { "" } else { " (not created yet)" };
        writeln!(out, "cache      {}{note}", cache.path.display())?;
    }
    let mut label = "variables";
    for (name, value) in &report.variables {
        writeln!(out, "{label:<11}{name}={value}")?;
        label = "";
    }
    if report.variables.is_empty() {
        writeln!(out, "variables  none set that vd reads")?;
    }
    for problem in &report.problems {
        writeln!(out, "PROBLEM    {problem}")?;
    }
    Ok(out)
}
