//! Cost of one evaluation of the network: forward, and forward with backward.
//!
//! VD_BENCH_THREADS sets the threads (2 by default), VD_TEST_DEVICE the device (`cpu`).

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use tch::{Kind, Tensor};
use vd_unet3d::ops::torch::testing::{device, finished};
use vd_unet3d::ops::{Params, SeededNoise, torch};
use vd_unet3d::{Backbone, Cond, FrameMask, Noise, Preset, UNet3d, UNet3dConfig};

/// b c f h w: training inputs of a small model.
const SIZES: [[i64; 5]; 2] = [[1, 3, 5, 32, 32], [1, 3, 5, 16, 16]];

fn unet3d(c: &mut Criterion) {
    torch::init().unwrap();
    let given = std::env::var("VD_BENCH_THREADS").ok();
    torch::set_threads(given.map_or(2, |n| n.parse().unwrap()));
    eprintln!("{} threads, Float, {:?}, libtorch {}", torch::threads(), device(), torch::version());
    let config = UNet3dConfig { dim: 32, dim_mults: vec![1, 2, 4], ..UNet3dConfig::default() };
    let mut params = Params::new(0, Kind::Float, device());
    let net = UNet3d::new(&config, &mut params.root()).unwrap();
    let leaves: Vec<&Tensor> = params.trainable().into_iter().map(|(_, t)| t).collect();

    let mut group = c.benchmark_group("unet3d_dim32");
    group.sampling_mode(SamplingMode::Flat);
    for size in SIZES {
        let like = Tensor::empty(size, (Kind::Float, device()));
        let x = SeededNoise::new(1, 0).normal(&like);
        let weights = SeededNoise::new(2, 0).normal(&like);
        let t = Tensor::from_slice(&[500i64]).to_device(device());
        let answer = |x: &Tensor| net.forward(x, &t, &Cond::none(), &FrameMask::All, None).unwrap();
        let at = size.map(|n| n.to_string()).join("x");
        group.bench_function(format!("forward/{at}"), |b| {
            let _no_gradients = tch::no_grad_guard();
            b.iter(|| finished(answer(black_box(&x))));
        });
        group.bench_function(format!("forward_backward/{at}"), |b| {
            b.iter(|| {
                let value = (answer(black_box(&x)) * &weights).sum(Kind::Float);
                finished(Tensor::run_backward(&[value], &leaves, false, false))
            });
        });
    }
    group.finish();
}

/// The architectures of the package and of the paper; `presets` compares their times per operation.
fn presets(c: &mut Criterion) {
    let size = [1, 3, 16, 32, 32];
    let like = Tensor::empty(size, (Kind::Float, device()));
    let x = SeededNoise::new(1, 0).normal(&like);
    let weights = SeededNoise::new(2, 0).normal(&like);
    let t = Tensor::from_slice(&[0.5f32]).to_device(device());
    let mut group = c.benchmark_group("unet3d_dim64");
    group.sampling_mode(SamplingMode::Flat);
    for preset in [Preset::VideoDiffusionPytorch0_7, Preset::PaperUcf101] {
        let config = UNet3dConfig { dim: 64, ..preset.config() };
        let mut params = Params::new(0, Kind::Float, device());
        let net = UNet3d::new(&config, &mut params.root()).unwrap();
        let leaves: Vec<&Tensor> = params.trainable().into_iter().map(|(_, t)| t).collect();
        let answer = |x: &Tensor| net.forward(x, &t, &Cond::none(), &FrameMask::All, None).unwrap();
        group.bench_function(format!("forward/{}", preset.name()), |b| {
            let _no_gradients = tch::no_grad_guard();
            b.iter(|| finished(answer(black_box(&x))));
        });
        group.bench_function(format!("forward_backward/{}", preset.name()), |b| {
            b.iter(|| {
                let value = (answer(black_box(&x)) * &weights).sum(Kind::Float);
                finished(Tensor::run_backward(&[value], &leaves, false, false))
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .nresamples(1_001)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = unet3d, presets
}
criterion_main!(benches);
