//! Stateful guidance: the progress of a run that it gets, and that it forgets the previous run.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use std::cell::RefCell;

use known::{Flow, Gaussian, Mixing, Toy, doubles, random, run};
use vd_diffusion::Progress::{Inverting, Raised, Sampling, Step};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{
    Autoguided, Cond, ContextFrames, Ddim, Denoiser, Diffusion, FrameMask, GuidanceConfig, Guided,
    Heun, Known, Levels, Likelihood, LossKind, NoiseLevel, NoiseRange, Parameterization, Progress,
    Reconstruction, ReconstructionConfig, Restart, Result, Schedule, SeededNoise, Signal, Spacing,
    Threshold, Thresholded, TimeSampling, invert, keep_going, log_likelihood,
};

const SIZE: [i64; 5] = [2, 2, 5, 4, 6];

/// Records the progress calls.
#[derive(Debug, Default)]
struct Told(RefCell<Vec<Progress>>);

impl Denoiser for Told {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        Gaussian { mean: doubles(&[0.3]), std: 0.5 }.denoise(x, at)
    }
    fn denoise_levels(&self, x: &Tensor, _: &Levels) -> Result<Tensor> {
        Ok(x * 0.5)
    }
    fn follow(&self, progress: Progress) {
        self.0.borrow_mut().push(progress);
    }
}

fn grid(steps: usize) -> Vec<NoiseLevel> {
    Spacing::UniformT.grid(&Flow, steps).unwrap()
}

#[test]
fn every_wrapper_passes_on_how_a_run_goes() {
    let x = random(1, &SIZE, Kind::Double);
    let known = || Known::frames(x.narrow(2, 0, 1), vec![0]);
    let context = |told| {
        let (known, clean) = (x.narrow(2, 0, 1), Flow.at(0.0));
        ContextFrames::new(told, known, vec![0], &SIZE, clean, &mut SeededNoise::new(1, 0))
    };
    let complete = |told| {
        Reconstruction::new(told, vec![known()], &SIZE, ReconstructionConfig::default()).unwrap()
    };
    let (all, rule) = (NoiseRange::default(), GuidanceConfig::default());
    let told = &Told::default();
    let wrapped: [Box<dyn Denoiser + '_>; 8] = [
        Box::new(told),
        Box::new(Thresholded::new(told, Threshold::Static).unwrap()),
        Box::new(context(told).unwrap()),
        Box::new(complete(told)),
        Box::new(Autoguided::new(told, Mixing, 2.0, all).unwrap()),
        Box::new(Autoguided::new(Mixing, told, 2.0, all).unwrap()),
        Box::new(Guided::around(told, Mixing, 2.0, &rule, Parameterization::V).unwrap()),
        Box::new(Guided::around(Mixing, told, 2.0, &rule, Parameterization::V).unwrap()),
    ];
    for denoiser in wrapped {
        let mut noise = SeededNoise::new(2, 0);
        let _ = run(&Heun::default(), &denoiser, &Flow, &grid(2), &x, &mut noise);
        assert_eq!(told.0.take(), [Sampling { steps: 2 }, Step, Step]);
    }
}

#[test]
fn restarts_inversions_and_likelihoods_say_what_they_do() {
    let (told, x) = (Told::default(), random(3, &[2, 3], Kind::Double));
    let sampler = Restart { inner: Box::new(Ddim { eta: 0.0 }), low: 0.3, high: 1.2, times: 1 };
    let _ = run(&sampler, &told, &Flow, &grid(4), &x, &mut SeededNoise::new(2, 0));
    // sigma / alpha is 1 and .33 at t = .5 and .25: one step is repeated.
    assert_eq!(told.0.take(), [Sampling { steps: 5 }, Step, Step, Step, Raised, Step, Step]);
    let _ = invert(&told, &Flow, &grid(3), x.shallow_clone(), &mut keep_going).unwrap();
    assert_eq!(told.0.take(), [Inverting { steps: 3 }, Step, Step, Step]);
    let (settings, mut noise) = (Likelihood::default(), SeededNoise::new(3, 0));
    let _ = log_likelihood(&settings, &told, &Flow, &grid(3)[..3], &x, &mut noise).unwrap();
    assert_eq!(told.0.take(), [Inverting { steps: 2 }, Step, Step]);
}

fn diffusion() -> Diffusion {
    let (loss, times) = (LossKind::L2, TimeSampling::Uniform);
    Diffusion::with_schedule(Box::new(Flow), Parameterization::V, loss, times).unwrap()
}

fn guided<'a>(diffusion: &'a Diffusion, toy: &'a Toy, rule: &GuidanceConfig) -> Guided<'a> {
    let signals = vec![Signal { cond: Cond::pooled(random(4, &[2, 3], Kind::Double)), scale: 3.0 }];
    diffusion.guided_by(toy, signals, FrameMask::All, rule).unwrap()
}

fn rules() -> [GuidanceConfig; 2] {
    let within = NoiseRange::default();
    let apg = GuidanceConfig::Apg { eta: 0.2, norm_threshold: 0.0, momentum: -0.6, within };
    [apg, GuidanceConfig::CfgZeroStar { zero_init: 2, within }]
}

#[test]
fn a_denoiser_that_was_used_gives_the_run_that_a_new_one_gives() {
    let (diffusion, toy, x) = (diffusion(), Toy::conditional(), random(5, &SIZE, Kind::Double));
    let some = || vec![Known::frames(x.narrow(2, 0, 1), vec![0])];
    let every = ReconstructionConfig { every: 3, ..ReconstructionConfig::default() };
    for rule in rules() {
        let build = || {
            let main = diffusion.denoiser(&toy, Cond::none(), FrameMask::All);
            let guide = guided(&diffusion, &toy, &rule);
            let both = Autoguided::new(main, guide, 2.0, NoiseRange::default()).unwrap();
            Reconstruction::new(both, some(), &SIZE, every).unwrap()
        };
        let noise = || SeededNoise::new(6, 0);
        let sampled = |denoiser: &dyn Denoiser, grid: &[NoiseLevel]| {
            run(&Ddim { eta: 0.5 }, denoiser, &Flow, grid, &x, &mut noise())
        };
        let inverted = |denoiser: &dyn Denoiser| {
            invert(denoiser, &Flow, &grid(4)[..4], x.shallow_clone(), &mut keep_going).unwrap()
        };
        let used = build();
        // A long run and a shorter one, which starts with less noise, and with more noise than was
        // left.
        for levels in [&grid(8)[..], &grid(8)[3..], &grid(2)] {
            assert_eq!(sampled(&used, levels), sampled(&build(), levels), "{rule:?}");
        }
        assert_eq!(inverted(&used), inverted(&build()), "{rule:?}");
        assert_eq!(sampled(&used, &grid(5)), sampled(&build(), &grid(5)), "{rule:?}");
    }
}

#[test]
fn an_inversion_takes_no_velocity_for_zero() {
    let (diffusion, toy, x) = (diffusion(), Toy::conditional(), random(7, &SIZE, Kind::Double));
    let [_, held] = rules();
    let plain = GuidanceConfig::CfgZeroStar { zero_init: 0, within: NoiseRange::default() };
    let [held, plain] = [held, plain].map(|rule| {
        let denoiser = guided(&diffusion, &toy, &rule);
        invert(&denoiser, &Flow, &grid(4), x.shallow_clone(), &mut keep_going).unwrap()
    });
    assert_eq!(held, plain);
}
