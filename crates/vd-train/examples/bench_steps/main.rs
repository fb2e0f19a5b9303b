//! This project's side of the comparison on a device: times a forward pass, a sampling step or a
//! training step.
//!
//! Arguments are `key=value`: `dim`, `mults`, `batch`, `frames`, `side`, `device`, `autocast`,
//! `what` (forward, sample, train), `seconds` (the time limit for the timed runs), and optionally
//! `weights` and `answer` (safetensors: the weights; `x`, `t` and the other side's `output`),
//! `graphs=off` (nothing is recorded and replayed), and `cudnn=search` (all convolution algorithms
//! are tried). With `bytes_per_s` and `flops_per_s`, the device's peak rates, the lower bounds of
//! the step's time are reported too. The last line on stdout is a JSON object.

#![allow(clippy::print_stdout, reason = "its lines are what it is for")]

#[path = "../../../vd-unet3d/examples/support/arguments.rs"]
mod arguments;
mod training;

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};
use vd_diffusion::{
    Ancestral, Diffusion, DiffusionConfig, LossKind, ScheduleConfig, Spacing, Threshold,
    Thresholded, keep_going, sample,
};
use vd_tensor_ops::{FrameMask, Noise, Params, SeededNoise, Weights};
use vd_torch::{Autocast, DeviceChoice, DeviceMemory};
use vd_unet3d::flops::Shape;
use vd_unet3d::traffic::{self, Pass, Rates, Widths};
use vd_unet3d::{Backbone, Cond, UNet3d, UNet3dConfig};

use arguments::Arguments;
use training::Training;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Warm-up runs: everything that is recorded is recorded in the first four.
const WARM_UPS: usize = 5;
/// The minimum and maximum number of timed runs.
const RUNS: (usize, usize) = (5, 50);

fn main() -> Result<()> {
    let arguments = Arguments::read();
    let bench = Bench::load(&arguments)?;
    vd_torch::search_convolutions(arguments.text("cudnn").ok() == Some("search"))?;
    let error = bench.check(&arguments)?;
    let what = arguments.text("what")?;
    let (mut runs, mut graphs) = (serde_json::Map::new(), None);
    match what {
        "forward" => {
            drop(runs.insert("device".to_owned(), bench.time(&arguments, || bench.forward())?))
        }
        "sample" | "train" => {
            // The cost of seeded noise that is the same on every device.
            for (name, seeded) in [("seed", true), ("libtorch", false)] {
                let mut noise: Box<dyn Noise> = match seeded {
                    true => Box::new(SeededNoise::new(3, 0)),
                    false => Box::new(LibtorchNoise),
                };
                let mut training = (what == "train").then(|| Training::new(&bench)).transpose()?;
                let step = || match &mut training {
                    Some(training) => training.step(&bench, noise.as_mut()),
                    None => bench.sample(noise.as_mut()),
                };
                runs.insert(name.to_owned(), bench.time(&arguments, step)?);
                graphs = training.as_ref().and_then(Training::graphs);
            }
        }
        other => return Err(format!("there is no `what={other}`").into()),
    }
    let report = serde_json::json!({
        "what": what,
        "flops": bench.work(what).iter().map(|pass| pass.flops).sum::<u64>(),
        "bytes": bench.work(what).iter().map(|pass| pass.bytes).sum::<u64>(),
        "floors_ms": bench.floors(what, &arguments)?,
        "error": error,
        "noise": runs,
        "parameters": bench.params.count(),
        "graphs": bench.graphs(),
        "graphs_of_steps": graphs,
    });
    println!("{report}");
    Ok(())
}

/// Noise of libtorch's generator: unlike the noise of training and sampling it has no seed.
#[derive(Debug)]
struct LibtorchNoise;

#[allow(clippy::disallowed_methods, reason = "that it draws so is what is measured")]
impl Noise for LibtorchNoise {
    fn normal(&mut self, like: &Tensor) -> Tensor {
        like.randn_like()
    }

    fn uniform(&mut self, like: &Tensor) -> Tensor {
        like.rand_like()
    }
}

struct Bench {
    config: UNet3dConfig,
    net: UNet3d,
    params: Params,
    diffusion: Diffusion,
    x: Tensor,
    device: Device,
    autocast: Autocast,
    shape: Shape,
}

impl Bench {
    fn load(arguments: &Arguments) -> Result<Self> {
        let device = arguments.number::<DeviceChoice>("device")?.resolve()?;
        let mults = arguments.text("mults")?.split(',').map(str::parse);
        let config = UNet3dConfig {
            dim: arguments.number("dim")?,
            dim_mults: mults.collect::<std::result::Result<_, _>>()?,
            ..UNet3dConfig::video_diffusion_pytorch_0_7()
        };
        let mut params = Params::new(0, Kind::Float, device);
        let mut net = UNet3d::new(&config, &mut params.root())?;
        let autocast = arguments.number("autocast")?;
        net.set_autocast(autocast);
        net.set_graphs(arguments.text("graphs").ok() != Some("off"));
        if let Ok(weights) = arguments.text("weights") {
            params.load(&Weights::read(Path::new(weights), device)?.tensors)?;
        }
        let [b, f, side] = ["batch", "frames", "side"].map(|key| arguments.number::<i64>(key));
        let [b, f, side] = [b?, f?, side?];
        let like = Tensor::f_empty([b, config.channels, f, side, side], (Kind::Float, device))?;
        let x = SeededNoise::new(1, 0).normal(&like);
        let shape = [b, f, side, side].map(i64::unsigned_abs);
        let shape = Shape { b: shape[0], f: shape[1], h: shape[2], w: shape[3], tokens: 0 };
        let diffusion = Diffusion::new(&DiffusionConfig {
            schedule: ScheduleConfig::cosine_discrete(1000),
            loss: LossKind::L1,
            ..DiffusionConfig::default()
        })?;
        Ok(Bench { config, net, params, diffusion, x, device, autocast, shape })
    }

    /// The kernels of a step, for counting.
    fn work(&self, what: &str) -> Vec<Pass> {
        let layers = traffic::layers(&self.config, self.shape);
        let widths = if self.autocast.is_off() { Widths::F32 } else { Widths::HALF };
        match what {
            "train" => traffic::training(&layers, widths),
            _ => traffic::forward(&layers, widths),
        }
    }

    /// A lower bound on a step's time in milliseconds, if the rates are given.
    fn floors(&self, what: &str, arguments: &Arguments) -> Result<Option<serde_json::Value>> {
        if arguments.text("bytes_per_s").is_err() {
            return Ok(None);
        }
        let rates = Rates {
            bytes: arguments.number("bytes_per_s")?,
            flops: arguments.number("flops_per_s")?,
        };
        let floors = traffic::floors(&self.work(what), rates);
        Ok(Some(serde_json::json!({
            "memory": 1e3 * floors.memory,
            "arithmetic": 1e3 * floors.arithmetic,
            "larger": 1e3 * floors.larger,
        })))
    }

    /// The relative L2 error against the other side's output, if there is one; TF32 is off.
    fn check(&self, arguments: &Arguments) -> Result<Option<f64>> {
        let Ok(answer) = arguments.text("answer") else { return Ok(None) };
        let tensors = Weights::read(Path::new(answer), self.device)?.tensors;
        let of = |name: &str| tensors.get(name).ok_or_else(|| format!("{answer} has no `{name}`"));
        let (x, t, expected) = (of("x")?, of("t")?, of("output")?);
        vd_torch::allow_tf32(false)?;
        let got = tch::no_grad(|| self.net.forward(x, t, &Cond::none(), &FrameMask::All, None))?;
        // libtorch's, and so Python's, initial setting: on for convolutions, off for matrix
        // products.
        vd_torch::restart_tf32()?;
        let norm = |t: &Tensor| t.to_kind(Kind::Double).norm().double_value(&[]);
        Ok(Some(norm(&(got - expected)) / norm(expected)))
    }

    /// The state of the network's recording.
    fn graphs(&self) -> serde_json::Value {
        let state = self.net.graph_state();
        serde_json::json!({
            "recorded": state.recorded,
            "replayed": state.replayed,
            "refused": state.refused,
        })
    }

    fn forward(&self) -> Result<()> {
        let t = Tensor::f_full([self.x.size()[0]], 500, (Kind::Int64, self.device))?;
        let _ =
            tch::no_grad(|| self.net.forward(&self.x, &t, &Cond::none(), &FrameMask::All, None))?;
        Ok(())
    }

    /// One of the 1000 ancestral steps.
    fn sample(&self, noise: &mut dyn Noise) -> Result<()> {
        let schedule = self.diffusion.schedule();
        let grid = Spacing::UniformT.grid(schedule, 1000)?;
        let denoiser = self.diffusion.denoiser(&self.net, Cond::none(), FrameMask::All);
        let denoiser = Thresholded::new(denoiser, Threshold::Static)?;
        let (grid, x) = (&grid[500..502], self.x.shallow_clone());
        let sampler = Ancestral { gamma: 0.0 };
        let _ = sample(&sampler, &denoiser, schedule, grid, x, noise, &mut keep_going)?;
        Ok(())
    }

    /// Milliseconds of each run, sorted, and the memory that was taken at most: what a recording keeps is in
    /// that of the device alone, for its replays allocate nothing. Warm-ups do not count.
    fn time(
        &self,
        arguments: &Arguments,
        mut run: impl FnMut() -> Result<()>,
    ) -> Result<serde_json::Value> {
        for _ in 0..WARM_UPS {
            run()?;
        }
        vd_torch::restart_device_peak(self.device)?;
        let most = Duration::from_secs_f64(arguments.number("seconds")?);
        let begun = Instant::now();
        let mut times = Vec::new();
        while times.len() < RUNS.0 || (times.len() < RUNS.1 && begun.elapsed() < most) {
            vd_torch::synchronize(self.device)?;
            let start = Instant::now();
            run()?;
            vd_torch::synchronize(self.device)?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        let memory = vd_torch::device_memory(self.device)?;
        let peak = |of: fn(DeviceMemory) -> u64| memory.map(of);
        Ok(serde_json::json!({
            "median_ms": times[times.len() / 2],
            "min_ms": times[0],
            "max_ms": times[times.len() - 1],
            "runs": times.len(),
            "peak_allocated": peak(|memory| memory.peak_allocated),
            "peak_reserved": peak(|memory| memory.peak_reserved),
        }))
    }
}
