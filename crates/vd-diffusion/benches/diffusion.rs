//! What this crate adds to the network: a sampler's step, guidance and thresholding, and the loss.
//!
//! The network is one multiplication, so that nearly all of the time is the crate's own. Sizes are
//! those of a training batch of small clips (8 x 3 x 16 x 32 x 32, f32).
#![allow(missing_docs, reason = "criterion's macros make functions of their own")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench fails and reports loudly")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use vd_diffusion::tch::{Device, Kind, Tensor, set_num_threads};
use vd_diffusion::{
    Ancestral, Backbone, Cond, Ddim, Denoiser, Diffusion, DiffusionConfig, FrameMask, FrameTimes,
    LossRequest, Noise, NoiseLevel, Parameterization, Result, Sampler, SamplerConfig, SeededNoise,
    Spacing, Threshold, Thresholded, Weighting, keep_going, sample, start, unet3d,
};

const THREADS: i32 = 2;
const SIZE: [i64; 5] = [8, 3, 16, 32, 32];

/// One multiplication.
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

/// Noise that costs nothing: drawing it is not this crate's part.
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

/// Knows the clean tensor, so that nothing but the sampler takes time.
#[derive(Debug)]
struct Known(Tensor);

impl Denoiser for Known {
    fn denoise(&self, _: &Tensor, _: NoiseLevel) -> Result<Tensor> {
        Ok(self.0.shallow_clone())
    }
}

fn fixed() -> (Diffusion, Tensor) {
    set_num_threads(THREADS);
    println!("threads: {THREADS}");
    let like = Tensor::empty(SIZE, (Kind::Float, Device::Cpu));
    let x = SeededNoise::new(0, 0).normal(&like);
    (Diffusion::new(&DiffusionConfig::default()).unwrap(), x)
}

fn steps(c: &mut Criterion) {
    let (diffusion, x) = fixed();
    let grid = Spacing::UniformT.grid(diffusion.schedule(), 50).unwrap();
    let pair = [grid[20], grid[21]];
    let mut noise = Drawn(x.get(0).unsqueeze(0));
    let x = start(&x, pair[0], &mut noise);
    let cond = || Cond::pooled(x.view([SIZE[0], -1]).narrow(1, 0, 64));
    let plain = diffusion.denoiser(&Trivial, Cond::none(), FrameMask::All);
    let guided = diffusion.guided(&Trivial, cond(), FrameMask::All, 2.0).unwrap();
    let clamped = Thresholded::new(&plain, Threshold::Static).unwrap();
    let dynamic = Thresholded::new(&plain, Threshold::dynamic()).unwrap();
    let (ddim, ddpm) = (Ddim { eta: 0.0 }, Ancestral { gamma: 0.0 });
    let cases: [(&str, &dyn Sampler, &dyn Denoiser); 5] = [
        ("ddim", &ddim, &plain),
        ("ddpm", &ddpm, &plain),
        ("ddim, guided", &ddim, &guided),
        ("ddim, static threshold", &ddim, &clamped),
        ("ddim, dynamic threshold", &ddim, &dynamic),
    ];
    let mut group = c.benchmark_group("one step");
    for (name, sampler, denoiser) in cases {
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let x = black_box(&x).shallow_clone();
                let schedule = diffusion.schedule();
                sample(sampler, denoiser, schedule, &pair, x, &mut noise, &mut keep_going).unwrap()
            });
        });
    }
    group.finish();
}

/// Every sampler over eight steps at the size of one clip, where the network costs nothing at all.
fn samplers(c: &mut Criterion) {
    let (diffusion, _) = fixed();
    let clip = Tensor::empty([1, 3, 16, 64, 64], (Kind::Float, Device::Cpu));
    let x = SeededNoise::new(1, 0).normal(&clip);
    let mut noise = Drawn(SeededNoise::new(2, 0).normal(&clip));
    let known = Known(SeededNoise::new(3, 0).normal(&clip));
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

fn losses(c: &mut Criterion) {
    let (diffusion, x0) = fixed();
    let mut noise = Drawn(x0.get(0).unsqueeze(0));
    let keep = Tensor::ones([SIZE[0], 1, SIZE[2], 1, 1], (Kind::Float, Device::Cpu));
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

criterion_group!(benches, steps, samplers, losses);
criterion_main!(benches);
