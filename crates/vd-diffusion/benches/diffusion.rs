//! The cost that this crate adds to the network: schedules and grids, a sampler's step, guidance,
//! thresholding, noise, and the loss.
//!
//! The network is at most one multiplication, so nearly all of the time is the crate's own.
//! Sampling has the size of one clip (1 x 3 x 16 x 64 x 64, f32, one thread), with eight steps
//! timed together; the loss has that of a training batch (8 x 3 x 16 x 32 x 32).
#![allow(missing_docs, reason = "criterion's macros make functions of their own")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench fails and reports loudly")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use vd_diffusion::tch::{Device, Kind, Tensor, set_num_threads};
use vd_diffusion::{
    Backbone, BrownianNoise, Cond, Ddim, Denoiser, Diffusion, DiffusionConfig, FrameMask,
    FrameTimes, LossRequest, Noise, NoiseLevel, Parameterization, Reconstruction,
    ReconstructionConfig, Result, SamplerConfig, ScheduleConfig, SeededNoise, Spacing, Threshold,
    Thresholded, Weighting, keep_going, sample, unet3d,
};

const THREADS: i32 = 1;
/// Shape of a training batch.
const BATCH: [i64; 5] = [8, 3, 16, 32, 32];
/// Shape of a sampled clip.
const CLIP: [i64; 5] = [1, 3, 16, 64, 64];

/// A network of one multiplication.
#[derive(Debug)]
struct Trivial;

impl Backbone for Trivial {
    fn forward(
        &self,
        x: &Tensor,
        _: &Tensor,
        _: &Cond,
        _: &FrameMask,
        _: Option<&mut dyn Noise>,
    ) -> unet3d::Result<Tensor> {
        Ok(x * 0.5)
    }

    fn is_conditional(&self) -> bool {
        true
    }
}

/// Noise at no cost: generating it is not this crate's part.
#[derive(Debug)]
struct Drawn(Tensor);

impl Noise for Drawn {
    fn normal(&mut self, like: &Tensor) -> Tensor {
        self.0.expand_as(like)
    }

    fn uniform(&mut self, like: &Tensor) -> Tensor {
        like.full_like(0.5)
    }
}

/// Knows the clean tensor, so that only the sampler takes time.
#[derive(Debug)]
struct Known(Tensor);

impl Denoiser for Known {
    fn denoise(&self, _: &Tensor, _: NoiseLevel) -> Result<Tensor> {
        Ok(self.0.shallow_clone())
    }
}

fn normal(seed: u64, size: [i64; 5]) -> Tensor {
    // As programs do: otherwise every large tensor needs fresh pages.
    unet3d::ops::torch::init().unwrap();
    set_num_threads(THREADS);
    println!("threads: {THREADS}");
    SeededNoise::new(seed, 0).normal(&Tensor::empty(size, (Kind::Float, Device::Cpu)))
}

fn default_diffusion() -> Diffusion {
    Diffusion::new(&DiffusionConfig::default()).unwrap()
}

fn schedules(c: &mut Criterion) {
    let mut group = c.benchmark_group("schedule");
    for config in ScheduleConfig::all() {
        let kind = serde_json::to_value(&config).unwrap()["kind"].as_str().unwrap().to_owned();
        group.bench_function(format!("{kind}, built"), |bench| {
            bench.iter(|| black_box(&config).build().unwrap());
        });
        let schedule = config.build().unwrap();
        group.bench_function(format!("{kind}, there and back"), |bench| {
            bench.iter(|| schedule.t_at(schedule.at(black_box(0.3)).log_snr()));
        });
    }
    group.finish();
}

fn spacings(c: &mut Criterion) {
    let diffusion = default_diffusion();
    let mut group = c.benchmark_group("50 levels");
    for spacing in Spacing::all() {
        group.bench_function(spacing.name(), |bench| {
            bench.iter(|| spacing.grid(black_box(diffusion.schedule()), 50).unwrap());
        });
    }
    group.finish();
}

/// Eight steps of every sampler, with a network and noise at no cost.
fn samplers(c: &mut Criterion) {
    let diffusion = default_diffusion();
    let x = normal(1, CLIP);
    let mut noise = Drawn(normal(2, CLIP));
    let known = Known(normal(3, CLIP));
    let grid = Spacing::UniformT.grid(diffusion.schedule(), 8).unwrap();
    let mut group = c.benchmark_group("eight steps");
    for config in SamplerConfig::all() {
        let sampler = config.build().unwrap();
        group.bench_function(config.facts().name, |bench| {
            bench.iter(|| {
                let x = black_box(&x).shallow_clone();
                let (sampler, schedule) = (sampler.as_ref(), diffusion.schedule());
                sample(sampler, &known, schedule, &grid, x, &mut noise, &mut keep_going).unwrap()
            });
        });
    }
    group.finish();
}

/// Eight steps of DDIM through the wrappers of a network.
fn wrappers(c: &mut Criterion) {
    let diffusion = default_diffusion();
    let x = normal(1, CLIP);
    let mut noise = Drawn(normal(2, CLIP));
    let grid = Spacing::UniformT.grid(diffusion.schedule(), 8).unwrap();
    let cond = || Cond::pooled(x.view([CLIP[0], -1]).narrow(1, 0, 64));
    let plain = diffusion.denoiser(&Trivial, Cond::none(), FrameMask::All);
    let guided = diffusion.guided(&Trivial, cond(), FrameMask::All, 2.0).unwrap();
    let clamped = Thresholded::new(&plain, Threshold::Static).unwrap();
    let dynamic = Thresholded::new(&plain, Threshold::dynamic()).unwrap();
    let first = vec![vd_diffusion::Known::frames(x.narrow(2, 0, 4), vec![0, 1, 2, 3])];
    let config = ReconstructionConfig::default();
    let pulled = Reconstruction::new(&plain, first, &CLIP, config).unwrap();
    let cases: [(&str, &dyn Denoiser); 5] = [
        ("nothing", &plain),
        ("guidance", &guided),
        ("static threshold", &clamped),
        ("dynamic threshold", &dynamic),
        ("reconstruction of 4 frames", &pulled),
    ];
    let mut group = c.benchmark_group("eight steps of ddim through");
    for (name, denoiser) in cases {
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let x = black_box(&x).shallow_clone();
                let (sampler, schedule) = (Ddim { eta: 0.0 }, diffusion.schedule());
                sample(&sampler, denoiser, schedule, &grid, x, &mut noise, &mut keep_going).unwrap()
            });
        });
    }
    group.finish();
}

/// One draw at the size of a clip.
fn draws(c: &mut Criterion) {
    let like = normal(0, CLIP);
    let mut group = c.benchmark_group("noise");
    group.bench_function("fresh", |bench| {
        let mut noise = SeededNoise::new(0, 0);
        bench.iter(|| noise.normal(black_box(&like)));
    });
    group.bench_function("between, from one Brownian path", |bench| {
        let mut noise = BrownianNoise::new(0, 0);
        // Intervals of 0.4 in log-SNR, as in 50 steps across 20.
        let mut log_snr = (-25..25).map(|k| 0.4 * f64::from(k)).cycle();
        bench.iter(|| {
            let from = log_snr.next().unwrap();
            noise.between(from.exp(), (from + 0.4).exp(), black_box(&like))
        });
    });
    group.finish();
}

fn losses(c: &mut Criterion) {
    let (diffusion, x0) = (default_diffusion(), normal(0, BATCH));
    let mut noise = Drawn(x0.get(0).unsqueeze(0));
    let keep = Tensor::ones([BATCH[0], 1, BATCH[2], 1, 1], (Kind::Float, Device::Cpu));
    let mut group = c.benchmark_group("loss");
    let config = DiffusionConfig {
        parameterization: Parameterization::V,
        weighting: Weighting::MinSnr { gamma: 5.0 },
        ..Default::default()
    };
    let weighted = Diffusion::new(&config).unwrap();
    let own = FrameTimes::Context { frames: 1 };
    let per_frame = Diffusion::new(&config).unwrap().with_frame_times(own);
    for (name, diffusion, keep) in [
        ("of everything", &diffusion, None),
        ("under a mask of frames", &diffusion, Some(&keep)),
        ("weighted", &weighted, None),
        ("weighted, with a clean frame", &per_frame, None),
    ] {
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let request = LossRequest { keep, ..Default::default() };
                let x0 = black_box(&x0);
                diffusion.loss(&Trivial, x0, &Cond::none(), request, &mut noise).unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, schedules, spacings, samplers, wrappers, draws, losses);
criterion_main!(benches);
