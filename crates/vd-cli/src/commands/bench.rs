//! `vd bench`: times the network of a checkpoint.

use std::time::Instant;

use anyhow::Result;
use serde::Serialize;
use tch::{Kind, Tensor};
use vd_tensor_ops::kernels::Precision;
use vd_tensor_ops::{FrameMask, Noise, SeededNoise, kernels};
use vd_torch::{Autocast, synchronize};
use vd_unet3d::flops::{self, Shape};
use vd_unet3d::{Backbone, Cond, Tokens};

use crate::args::BenchArgs;
use crate::model::{Model, device_name};
use crate::output::{Outcome, count, plural};

/// Passes before the timed ones.
const WARM_UPS: u32 = 2;
/// Tokens per text, for networks that use them: a sentence.
const TOKENS: i64 = 32;

#[derive(Debug, Serialize)]
struct Report {
    median_ms: f64,
    min_ms: f64,
    max_ms: f64,
    mode: &'static str,
    threads: usize,
    dtype: &'static str,
    precision: String,
    /// The dtype of matrix products and convolutions.
    autocast: Autocast,
    /// Whether the timed passes were replays of a recording.
    graphs: bool,
    device: String,
    /// Floating-point operations of one pass.
    flops: u64,
    iters: u32,
    /// Levels whose activations are recomputed.
    recompute: usize,
    /// Peak resident memory.
    peak_mib: Option<f64>,
    /// Peak memory of tensors on a CUDA device.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_device_mib: Option<f64>,
}

pub(crate) fn run(args: &BenchArgs) -> Result<Outcome> {
    let device = args.compute.start()?;
    let mut model = Model::open(&args.checkpoint.path, None, device, args.precision)?
        .with_autocast(args.autocast)
        .with_graphs(args.graphs);
    model.loaded.network.set_recompute(args.recompute);
    super::check_size(model.config(), args.size)?;
    let input = Input::new(&model, args)?;
    // Replays allocate nothing: the memory of a recording is counted when it is made.
    vd_torch::restart_device_peak(device)?;
    for _ in 0..WARM_UPS {
        input.pass(&model, args.train)?;
    }
    model.tell_of_graphs();
    let pass = |_| input.pass(&model, args.train);
    let mut times = (0..args.iters).map(pass).collect::<Result<Vec<_>>>()?;
    times.sort_by(f64::total_cmp);
    let report = report(&model, args, &times)?;
    let text = describe(&report, args);
    Outcome::new(&report, text)
}

fn report(model: &Model, args: &BenchArgs, sorted: &[f64]) -> Result<Report> {
    let (h, w) = (args.size.h as u64, args.size.w as u64);
    let tokens = TOKENS.unsigned_abs();
    let shape = Shape { b: args.batch.into(), f: args.frames.into(), h, w, tokens };
    let forward = flops::forward(model.config(), shape);
    let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    let on_device = vd_torch::device_memory(model.device)?;
    Ok(Report {
        median_ms: (low + high) / 2.0,
        min_ms: sorted[0],
        max_ms: sorted[sorted.len() - 1],
        mode: if args.train { "train" } else { "forward" },
        threads: vd_torch::threads(),
        dtype: "float32",
        autocast: args.autocast,
        graphs: model.loaded.network.graph_state().recorded > 0,
        precision: if model.device.is_cuda() {
            // libtorch's default: matrix products in full f32; cuDNN may use TF32 in convolutions.
            let road = kernels::road_on(model.device, args.precision);
            format!("float32, tf32 in convolutions, kernels: {road}")
        } else if args.autocast.is_off() {
            kernels::road(args.precision)
        } else {
            kernels::road(Precision::Reference)
        },
        device: device_name(model.device),
        flops: if args.train { 3 * forward } else { forward },
        iters: args.iters,
        recompute: args.recompute,
        peak_mib: vd_torch::peak_resident().map(mib),
        peak_device_mib: on_device.map(|memory| mib(memory.peak_allocated)),
    })
}

/// The inputs of the network, drawn before timing starts.
struct Input {
    x: Tensor,
    t: Tensor,
    cond: Cond,
}

impl Input {
    fn new(model: &Model, args: &BenchArgs) -> Result<Input> {
        let config = model.config();
        let (b, options) = (i64::from(args.batch), (Kind::Float, model.device));
        let shape = [b, config.channels, i64::from(args.frames), args.size.h, args.size.w];
        let mut noise = SeededNoise::new(0, 0);
        let x = noise.normal(&Tensor::f_empty(shape, options)?);
        let middle = model.diffusion.schedule().time_input(0.5);
        let t = Tensor::f_full([b], middle, options)?;
        let mut normal = |shape: &[i64]| -> Result<Tensor> {
            Ok(noise.normal(&Tensor::f_empty(shape, options)?))
        };
        let mut cond = Cond::none();
        if let Some(d) = config.cond_dim {
            cond.pooled = Some(normal(&[b, d])?);
        }
        if let Some(tokens) = &config.tokens {
            let values = normal(&[b, TOKENS, tokens.dim])?;
            let weight = Tensor::f_ones([b, TOKENS], options)?;
            cond = cond.with_tokens(Tokens { values, weight });
        }
        Ok(Input { x, t, cond })
    }

    /// Milliseconds of one pass.
    fn pass(&self, model: &Model, train: bool) -> Result<f64> {
        let network = &model.loaded.network;
        let forward = || network.forward(&self.x, &self.t, &self.cond, &FrameMask::All, None);
        let params: Vec<_> = model.loaded.params.trainable().into_iter().map(|(_, t)| t).collect();
        synchronize(model.device)?;
        let begun = Instant::now();
        if train {
            let mean = forward()?.f_mean(Kind::Float)?;
            let _gradients = Tensor::f_run_backward(&[&mean], &params, false, false)?;
        } else {
            let _answer = tch::no_grad(forward)?;
        }
        // A device works behind the host's back: the clock stops when its work is done.
        synchronize(model.device)?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }
}

fn describe(report: &Report, args: &BenchArgs) -> String {
    let Report { median_ms, min_ms, max_ms, mode, device, precision, .. } = report;
    let memory = report.peak_mib.map_or(String::new(), |mib| format!(", peak {mib:.0} MiB"));
    let on_device = report.peak_device_mib;
    let on_device =
        on_device.map_or(String::new(), |mib| format!(", peak {mib:.0} MiB on the device"));
    let cast = match report.autocast {
        Autocast::Off => String::new(),
        cast => format!(", autocast to {cast}"),
    };
    let graphs = if report.graphs { ", CUDA graphs" } else { "" };
    let rate = report.flops as f64 / median_ms / 1e6;
    let clips = plural(args.batch as usize, "clip");
    format!(
        "{mode}: {median_ms:.2} ms (min {min_ms:.2}, max {max_ms:.2}, {})\n\
         {clips} of {} frames at {}, {} flops, {rate:.1} Gflop/s\n\
         {device}, {}, {precision}{cast}{graphs}{memory}{on_device}",
        plural(report.iters as usize, "timed run"),
        args.frames,
        args.size,
        count(report.flops),
        plural(report.threads, "thread"),
    )
}
