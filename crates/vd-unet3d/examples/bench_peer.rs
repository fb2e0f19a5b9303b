//! This project's side of `cargo xtask bench-peer`: executes the commands that it reads from stdin.
//!
//! Arguments are `key=value`. Commands, each answered by one line: `check` (relative L2 errors
//! against the other side's output), `run` (milliseconds of one evaluation), `memory` (resident KiB
//! after loading, and the peak since then), `peak` (the instruction set of the kernels, and their
//! measured arithmetic limit). The program ends with its stdin.

#![allow(clippy::print_stdout, reason = "its lines are what it is for")]

#[path = "support/arguments.rs"]
mod arguments;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::time::Instant;

use tch::{Device, Kind, Reduction, Tensor};
use vd_unet3d::ops::kernels::cpu::{Isa, fma_peak};
use vd_unet3d::ops::{Params, Weights, torch};
use vd_unet3d::{Backbone, Cond, FrameMask, UNet3d, UNet3dConfig};

use arguments::Arguments;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Errors of gradients are relative to at least this fraction of all gradients' norm: some norms
/// consist only of rounding errors.
const FLOOR: f64 = 1e-6;

fn main() -> Result<()> {
    torch::init()?;
    let arguments = Arguments::read();
    torch::set_threads(arguments.number("threads")?);
    let bench = Bench::load(&arguments)?;
    restart_peak();
    let loaded = status("VmRSS")?;
    println!("ready");
    for command in io::stdin().lock().lines() {
        match command?.as_str() {
            "check" => println!("{}", bench.check()?),
            "run" => println!("{}", bench.run()?.0),
            "memory" => println!("{loaded} {}", status("VmHWM")?),
            "peak" => println!("{} {:e}", Isa::current(), fma_peak(torch::threads())),
            other => return Err(format!("there is no command `{other}`").into()),
        }
    }
    Ok(())
}

struct Bench {
    net: UNet3d,
    params: Params,
    x: Tensor,
    t: Tensor,
    target: Tensor,
    train: bool,
    folder: PathBuf,
}

impl Bench {
    fn load(arguments: &Arguments) -> Result<Self> {
        let mults = arguments.text("mults")?.split(',').map(str::parse);
        let config = UNet3dConfig {
            dim: arguments.number("dim")?,
            dim_mults: mults.collect::<std::result::Result<_, _>>()?,
            attn_heads: arguments.number("heads")?,
            attn_dim_head: arguments.number("head")?,
            ..UNet3dConfig::default()
        };
        let mut params = Params::new(0, Kind::Float, Device::Cpu);
        let mut net = UNet3d::new(&config, &mut params.root())?;
        net.set_precision(serde_json::from_value(arguments.text("precision")?.into())?);
        let folder = PathBuf::from(arguments.text("folder")?);
        params.load(&read(&folder, "weights")?)?;
        let mut inputs = read(&folder, "inputs")?;
        let mut take = |name: &str| {
            inputs.remove(name).ok_or_else(|| format!("inputs.safetensors has no `{name}`"))
        };
        let (x, t, target) = (take("x")?, take("t")?, take("target")?);
        let train = arguments.text("train")? == "1";
        Ok(Bench { net, params, x, t, target, train, folder })
    }

    /// One evaluation: its milliseconds, and its results, which are freed after timing.
    fn run(&self) -> Result<(f64, Vec<Tensor>)> {
        let forward = || self.net.forward(&self.x, &self.t, &Cond::none(), &FrameMask::All, None);
        if !self.train {
            let _no_gradients = tch::no_grad_guard();
            let start = Instant::now();
            let output = forward()?;
            return Ok((milliseconds(start), vec![output]));
        }
        let leaves: Vec<&Tensor> = self.params.trainable().into_iter().map(|(_, t)| t).collect();
        let start = Instant::now();
        let output = forward()?;
        let loss = output.f_mse_loss(&self.target, Reduction::Mean)?;
        let mut results = Tensor::f_run_backward(&[&loss], &leaves, false, false)?;
        let taken = milliseconds(start);
        results.insert(0, output.detach());
        Ok((taken, results))
    }

    /// `output ERROR`, and in training `gradients ERROR worst ERROR NAME`.
    fn check(&self) -> Result<String> {
        let (_, results) = self.run()?;
        let answer = read(&self.folder, "answer")?;
        let wanted = |name: &str| {
            answer.get(name).ok_or_else(|| format!("answer.safetensors has no `{name}`"))
        };
        let output = wanted("output")?;
        let mut line = format!("output {:.3e}", distance(&results[0], output)? / norm(output));
        if !self.train {
            return Ok(line);
        }
        let mut rows = Vec::new();
        for ((name, _), gradient) in self.params.trainable().into_iter().zip(&results[1..]) {
            let expected = wanted(&format!("gradient/{name}"))?;
            rows.push((name, distance(gradient, expected)?, norm(expected)));
        }
        let all = |part: fn(&(&str, f64, f64)) -> f64| {
            rows.iter().map(|row| part(row).powi(2)).sum::<f64>().sqrt()
        };
        let (error, size) = (all(|row| row.1), all(|row| row.2));
        let relative = |row: &(&str, f64, f64)| row.1 / row.2.max(FLOOR * size);
        let worst = rows.iter().max_by(|a, b| relative(a).total_cmp(&relative(b)));
        let worst = worst.ok_or("the network has no parameters")?;
        line +=
            &format!(" gradients {:.3e} worst {:.3e} {}", error / size, relative(worst), worst.0);
        Ok(line)
    }
}

fn read(folder: &Path, name: &str) -> Result<BTreeMap<String, Tensor>> {
    let path = folder.join(name).with_extension("safetensors");
    Ok(Weights::read(&path, Device::Cpu)?.tensors)
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// |got - expected|, in f64.
fn distance(got: &Tensor, expected: &Tensor) -> Result<f64> {
    if got.size() != expected.size() {
        return Err(format!("{:?} where {:?} is expected", got.size(), expected.size()).into());
    }
    Ok(norm(&(got.to_kind(Kind::Double) - expected.to_kind(Kind::Double))))
}

/// The Euclidean norm, in f64.
fn norm(values: &Tensor) -> f64 {
    values.to_kind(Kind::Double).norm().double_value(&[])
}

/// Restarts VmHWM from here; if the operating system refuses, it includes loading.
fn restart_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// A size in KiB that the operating system reports for this process.
fn status(key: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let size = line.and_then(|line| line.split_whitespace().next());
    Ok(size.ok_or_else(|| format!("/proc/self/status has no {key}"))?.parse()?)
}
