//! Whole steps of the demo's network: one step of training, one guided step of sampling.
//!
//! Threads come from VD_BENCH_THREADS (2 where not set), the device from VD_TEST_DEVICE (`cpu`).
#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::print_stderr, reason = "says once under which conditions it measures")]

use std::error::Error;

use criterion::{Criterion, criterion_group, criterion_main};
use tch::{Kind, Tensor};
use vd_diffusion::{
    Ddim, Diffusion, DiffusionConfig, LossRequest, Parameterization, ScheduleConfig, Spacing,
    keep_going, sample, start,
};
use vd_tensor_ops::{FrameMask, Noise, Params, SeededNoise};
use vd_torch::testing::{device, finished};
use vd_train::AdamW;
use vd_unet3d::{Cond, UNet3d, UNet3dConfig};

const BATCH: i64 = 8;
const SHAPE: [i64; 5] = [BATCH, 3, 8, 32, 32];
const WIDTH: i64 = 64;

struct Model {
    params: Params,
    unet: UNet3d,
    diffusion: Diffusion,
    x0: Tensor,
    cond: Cond,
}

fn model() -> Result<Model, Box<dyn Error>> {
    let threads = std::env::var("VD_BENCH_THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    vd_torch::init()?;
    vd_torch::set_threads(threads);
    eprintln!("steps: {threads} threads, f32, {:?}, clips b c f h w = {SHAPE:?}", device());
    let config = UNet3dConfig {
        dim: 16,
        dim_mults: vec![1, 2, 4],
        init_kernel_size: 3,
        attn_heads: 2,
        attn_dim_head: 16,
        use_sparse_linear_attn: false,
        cond_dim: Some(WIDTH),
        ..UNet3dConfig::default()
    };
    let mut params = Params::new(0, Kind::Float, device());
    let unet = UNet3d::new(&config, &mut params.root())?;
    let diffusion = Diffusion::new(&DiffusionConfig {
        schedule: ScheduleConfig::cosine(),
        parameterization: Parameterization::V,
        ..DiffusionConfig::default()
    })?;
    let mut noise = SeededNoise::new(1, 0);
    let x0 = noise.normal(&Tensor::empty(SHAPE, (Kind::Float, device()))).tanh();
    let cond = Cond::pooled(noise.normal(&Tensor::empty([BATCH, WIDTH], (Kind::Float, device()))));
    Ok(Model { params, unet, diffusion, x0, cond })
}

fn train_step(m: &Model, optimizer: &mut AdamW, noise: &mut SeededNoise) -> vd_train::Result<()> {
    let request = LossRequest::default();
    let loss = m.diffusion.loss(&m.unet, &m.x0, &m.cond, request, noise)?;
    let grads = Tensor::run_backward(&[&loss.mean], optimizer.params(), false, false);
    // The loss of captions alone does not reach what stands for none.
    let reached = |(grad, param): (Tensor, &Tensor)| match grad.defined() {
        true => grad,
        false => param.detach().zeros_like(),
    };
    let grads: Vec<_> = grads.into_iter().zip(optimizer.params()).map(reached).collect();
    optimizer.step(1e-4, &grads, 1.0, None)
}

fn sampling_step(m: &Model) -> vd_diffusion::Result<Tensor> {
    let schedule = m.diffusion.schedule();
    let grid = Spacing::UniformT.grid(schedule, 1)?;
    let mut noise = SeededNoise::new(2, 0);
    let x = start(&m.x0, grid[0], &mut noise);
    let guided = m.diffusion.guided(&m.unet, m.cond.shallow_clone(), FrameMask::All, 2.0)?;
    sample(&Ddim { eta: 0.0 }, &guided, schedule, &grid, x, &mut noise, &mut keep_going)
}

fn steps(c: &mut Criterion) {
    let m = model().unwrap_or_else(|e| panic!("the model of the benchmark: {e}"));
    let mut optimizer = AdamW::new(&m.params, [0.9, 0.999], 0.0);
    let mut noise = SeededNoise::new(3, 0);
    let mut group = c.benchmark_group("steps");
    group.sample_size(10);
    group.bench_function("train", |b| {
        b.iter(|| match finished(train_step(&m, &mut optimizer, &mut noise)) {
            Ok(()) => {}
            Err(e) => panic!("training step: {e}"),
        });
    });
    group.bench_function("sample, guided", |b| {
        b.iter(|| finished(sampling_step(&m).unwrap_or_else(|e| panic!("sampling step: {e}"))));
    });
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
