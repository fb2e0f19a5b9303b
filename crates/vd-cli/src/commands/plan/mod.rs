//! `vd plan`: estimates the cost of a run before it is started.

mod gpu;
mod layers;
mod measure;
mod told;

use anyhow::Result;
use serde::Serialize;
use tch::Device;
use vd_tensor_ops::kernels;
use vd_train::RunConfig;
use vd_unet3d::flops::{self, Shape};

use crate::args::PlanArgs;
use crate::model::device_name;
use crate::output::Outcome;

pub(crate) use gpu::Gpu;
use measure::{Costs, Line, Steps};

/// Steps that a process times.
const STEPS: usize = 5;
/// The larger of the two measured batches, unless the run's own is smaller.
const LARGER: usize = 4;
/// Tokens per text, if the network uses them: a sentence.
const TOKENS: u64 = 32;

#[derive(Debug, Serialize)]
struct Report {
    parameters: u64,
    batch: usize,
    accumulate: usize,
    frames: usize,
    size: [usize; 2],
    steps: u64,
    /// Of a step: all micro-batches, forward and backward.
    flops: u64,
    /// f32: the weights; gradients and moving average take the same again each.
    weight_bytes: u64,
    /// Two moments.
    optimizer_bytes: u64,
    device: String,
    threads: usize,
    precision: String,
    /// With the recomputation of the config.
    plan: Plan,
    /// With recomputation of all levels; omitted if the config already has it.
    recomputed: Option<Plan>,
    /// The memory that other processes leave free.
    available_bytes: Option<u64>,
    /// Estimates: these were not measured.
    gpus: Vec<OnGpu>,
}

/// The cost of one way to run.
#[derive(Debug, Serialize)]
struct Plan {
    /// Levels whose activations are recomputed.
    recompute: usize,
    seconds_per_step: f64,
    /// Peak resident memory, the program included.
    peak_bytes: u64,
    /// The part of it that grows with the batch.
    activation_bytes: u64,
    /// Clips that fit into the available memory.
    largest_batch: Option<u64>,
    measured: Costs,
}

/// The estimated cost on a GPU.
#[derive(Debug, Serialize)]
struct OnGpu {
    gpu: Gpu,
    seconds_per_step: f64,
    peak_bytes: u64,
    largest_batch: Option<u64>,
}

pub(crate) fn run(args: &PlanArgs) -> Result<Outcome> {
    let config = RunConfig::load(&args.config, &args.set)
        .map_err(|error| super::train::blame(error, &args.config, &args.set))?;
    if args.layers {
        return layers::counted(&config, args.rates);
    }
    if args.probe { probed(&config) } else { planned(args, &config) }
}

/// The measuring process.
fn probed(config: &RunConfig) -> Result<Outcome> {
    let mut probed = vd_train::probe(config, STEPS)?;
    probed.seconds.sort_by(f64::total_cmp);
    let steps = Steps {
        seconds: probed.seconds[STEPS / 2],
        peak_bytes: vd_torch::peak_resident(),
        parameters: probed.parameters,
    };
    Outcome::new(&steps, format!("{steps:?}"))
}

fn planned(args: &PlanArgs, config: &RunConfig) -> Result<Outcome> {
    let (train, levels) = (&config.train, config.model.dim_mults.len());
    let device = train.device.resolve()?;
    if train.threads > 0 {
        vd_torch::set_threads(train.threads);
    }
    let batches = [1, LARGER.min(train.batch).max(2)];
    let available = vd_torch::available_memory();
    let plan = |recompute: usize| -> Result<Plan> {
        let more = [format!("train.recompute={recompute}")];
        Ok(Plan::new(config, recompute, measure::costs(args, &more, batches)?, available))
    };
    let plain = plan(train.recompute)?;
    let recomputed = if train.recompute < levels { Some(plan(levels)?) } else { None };
    let parameters = plain.measured.parameters;
    let mut gpus = Vec::new();
    if !args.gpu.is_empty() {
        // A GPU keeps the activations of libtorch's operations, not those of the CPU's kernels.
        let more = ["train.precision=\"reference\"".to_owned(), "train.device=\"cpu\"".to_owned()];
        let kept = measure::costs(args, &more, batches)?.bytes.each;
        gpus.extend(args.gpu.iter().map(|gpu| OnGpu::new(*gpu, config, parameters, kept)));
    }
    let report = Report {
        parameters,
        batch: train.batch,
        accumulate: train.accumulate,
        frames: config.data.frames,
        size: config.data.size,
        steps: train.steps,
        flops: flops_of_step(config),
        weight_bytes: 4 * parameters,
        optimizer_bytes: 8 * parameters,
        device: device_name(device),
        threads: vd_torch::threads(),
        precision: match device {
            Device::Cpu => kernels::road(train.precision),
            _ => format!("float32, kernels: {}", kernels::road_on(device, train.precision)),
        },
        plan: plain,
        recomputed,
        available_bytes: available,
        gpus,
    };
    let text = told::text(&report, &args.config);
    Outcome::new(&report, text)
}

/// The backward counts as two forwards.
fn flops_of_step(config: &RunConfig) -> u64 {
    let [h, w] = config.data.size.map(|n| n as u64);
    let (b, f) = (config.train.batch as u64, config.data.frames as u64);
    let shape = Shape { b, f, h, w, tokens: TOKENS };
    let images = config.data.images.as_ref().map_or(0, |images| images.per_clip as u64);
    3 * config.train.accumulate as u64 * flops::joint(&config.model, shape, images)
}

impl Plan {
    fn new(config: &RunConfig, recompute: usize, costs: Costs, available: Option<u64>) -> Plan {
        let train = &config.train;
        let Line { fixed, each } = costs.seconds;
        // The part that does not grow with the batch is mostly the optimiser's, once per step.
        let clips = (train.batch * train.accumulate) as f64;
        Plan {
            recompute,
            seconds_per_step: fixed + each * clips,
            peak_bytes: costs.bytes.at(train.batch) as u64,
            activation_bytes: (costs.bytes.each * train.batch as f64) as u64,
            largest_batch: available.and_then(|bytes| costs.bytes.most(bytes as f64)),
            measured: costs,
        }
    }
}

impl OnGpu {
    /// `kept`: bytes that each clip keeps for the backward.
    fn new(gpu: Gpu, config: &RunConfig, parameters: u64, kept: f64) -> OnGpu {
        // Weights, gradients, moving average and two moments.
        let fixed = 20.0 * parameters as f64 + gpu::CONTEXT_BYTES;
        let bytes = Line { fixed, each: kept };
        OnGpu {
            gpu,
            seconds_per_step: flops_of_step(config) as f64 / (gpu.rate() * gpu::ASSUMED_SHARE),
            peak_bytes: bytes.at(config.train.batch) as u64,
            largest_batch: bytes.most(gpu.memory()),
        }
    }
}
