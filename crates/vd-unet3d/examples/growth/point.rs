//! One size of the input: time, memory and operations.

use std::fmt;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use tch::{Device, Kind, Reduction, Tensor};
use vd_unet3d::flops::{self, Shape};
use vd_unet3d::ops::{Params, SeededNoise, torch};
use vd_unet3d::{Backbone, Cond, FrameMask, Noise, UNet3d, UNet3dConfig};

use crate::Result;

pub(crate) const MULTIPLIERS: [i64; 4] = [1, 2, 4, 8];
/// Evaluations before the first that counts: weights are packed, memory is allocated.
const WARM_UP: usize = 1;
/// Number of timed evaluations, and the time after which three suffice.
const TIMES: usize = 9;
const ENOUGH: Duration = Duration::from_secs(3);
/// Operations of forward and backward, in units of a forward pass.
const FORWARD_AND_BACKWARD: u64 = 3;

/// A network's width and the size of its input.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    dim: u32,
    train: bool,
    pub(crate) batch: u32,
    pub(crate) frames: u32,
    pub(crate) side: u32,
}

impl Point {
    pub(crate) fn new(dim: u32, train: bool) -> Self {
        Point { dim, train, batch: 1, frames: 8, side: 32 }
    }

    /// In the form that [`Point::parse`] reads.
    pub(crate) fn words(&self) -> [String; 5] {
        let Point { dim, train, batch, frames, side } = *self;
        [dim, u32::from(train), batch, frames, side].map(|n| n.to_string())
    }

    pub(crate) fn parse(words: &[&str]) -> Result<Self> {
        let numbers: Vec<u32> =
            words.iter().map(|word| word.parse()).collect::<std::result::Result<_, _>>()?;
        let [dim, train, batch, frames, side] = numbers[..] else {
            return Err(format!("five numbers make a point, not {}", words.join(" ")).into());
        };
        Ok(Point { dim, train: train == 1, batch, frames, side })
    }

    pub(crate) fn pass(&self) -> &'static str {
        if self.train { "training step" } else { "forward" }
    }

    fn flops(&self, config: &UNet3dConfig) -> u64 {
        let [b, f, h] = [self.batch, self.frames, self.side].map(u64::from);
        let forward = flops::forward(config, Shape { b, f, h, w: h, tokens: 0 });
        if self.train { FORWARD_AND_BACKWARD * forward } else { forward }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Point { batch, frames, side, .. } = self;
        write!(f, "{}, {batch} x {frames} x {side} x {side}", self.pass())
    }
}

/// Cost of a point.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// The median.
    pub(crate) milliseconds: f64,
    /// Number of evaluations of the median.
    pub(crate) times: usize,
    /// Peak memory in bytes, above that of the loaded network and its input.
    pub(crate) peak: u64,
    /// Multiplications and additions of the direct algorithm.
    pub(crate) flops: u64,
}

impl Measured {
    /// Reads the line that [`Measured::fmt`] writes.
    pub(crate) fn parse(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [milliseconds, "ms", times, "times,", peak, "bytes,", flops, "flops"] = words[..]
        else {
            return Err(format!("a point answers `{line}`").into());
        };
        Ok(Measured {
            milliseconds: milliseconds.parse()?,
            times: times.parse()?,
            peak: peak.parse()?,
            flops: flops.parse()?,
        })
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Measured { milliseconds, times, peak, flops } = self;
        write!(f, "{milliseconds:.3} ms {times} times, {peak} bytes, {flops} flops")
    }
}

pub(crate) fn threads() -> Result<usize> {
    match std::env::var("VD_BENCH_THREADS") {
        Ok(given) => Ok(given.parse()?),
        Err(_) => Ok(thread::available_parallelism().map_or(1, usize::from)),
    }
}

pub(crate) fn measure(point: &Point) -> Result<Measured> {
    torch::init()?;
    torch::set_threads(threads()?);
    let (dim, dim_mults) = (i64::from(point.dim), MULTIPLIERS.to_vec());
    let config = UNet3dConfig { dim, dim_mults, ..UNet3dConfig::default() };
    let mut params = Params::new(0, Kind::Float, Device::Cpu);
    let network = UNet3d::new(&config, &mut params.root())?;
    let [b, f, side] = [point.batch, point.frames, point.side].map(i64::from);
    let like = Tensor::empty([b, config.channels, f, side, side], (Kind::Float, Device::Cpu));
    let mut noise = SeededNoise::new(1, 0);
    let (x, target) = (noise.normal(&like), noise.normal(&like));
    let t = Tensor::full([b], 500, (Kind::Int64, Device::Cpu));
    let leaves: Vec<&Tensor> = params.trainable().into_iter().map(|(_, t)| t).collect();
    let run = || -> Result<f64> {
        let forward = || network.forward(&x, &t, &Cond::none(), &FrameMask::All, None);
        let start = Instant::now();
        // Kept until timing ends: freeing is not measured.
        let _results = if point.train {
            let loss = forward()?.f_mse_loss(&target, Reduction::Mean)?;
            Tensor::f_run_backward(&[&loss], &leaves, false, false)?
        } else {
            vec![tch::no_grad(forward)?]
        };
        Ok(start.elapsed().as_secs_f64() * 1e3)
    };
    // The peak of loading is not part of an evaluation.
    fs::write("/proc/self/clear_refs", "5")?;
    let loaded = status("VmRSS")?;
    for _ in 0..WARM_UP {
        run()?;
    }
    let (begun, mut milliseconds) = (Instant::now(), Vec::new());
    while milliseconds.len() < 3 || milliseconds.len() < TIMES && begun.elapsed() < ENOUGH {
        milliseconds.push(run()?);
    }
    milliseconds.sort_by(f64::total_cmp);
    let times = milliseconds.len();
    let peak = status("VmHWM")?.saturating_sub(loaded);
    let milliseconds = milliseconds[times / 2];
    Ok(Measured { milliseconds, times, peak, flops: point.flops(&config) })
}

/// A size in bytes that the operating system reports for this process.
fn status(key: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let size = line.and_then(|line| line.split_whitespace().next());
    let kib: u64 = size.ok_or_else(|| format!("/proc/self/status has no {key}"))?.parse()?;
    Ok(1024 * kib)
}
