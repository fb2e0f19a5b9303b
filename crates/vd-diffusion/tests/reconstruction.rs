//! Reconstruction guidance on a pair of correlated normal numbers, the first of which is known.
//!
//! There the guided denoiser is affine, so that a sampler's final mean and covariance follow
//! exactly from its affine map, and samples can be held against them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{Correlated, Probe, Recorded, cosine, doubles, run};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{
    Ancestral, Denoiser, Known, NoiseLevel, Reconstruction, ReconstructionConfig, Sampler,
    SamplerConfig, SeededNoise, Spacing,
};

/// The value of the first number, unlike its mean.
const GIVEN: f64 = 1.2;

/// The first number of each pair.
fn first() -> Known {
    Known::pixels(doubles(&[GIVEN, 0.0]).view([1, 2]), Tensor::from_slice(&[true, false]))
}

fn completed(rho: f64, b: i64, config: ReconstructionConfig) -> Reconstruction<Correlated> {
    Reconstruction::new(Correlated(rho), vec![first()], &[b, 2], config).unwrap()
}

fn config(weight: f64, replace: bool) -> ReconstructionConfig {
    ReconstructionConfig { weight, replace, every: 1 }
}

fn samplers() -> Vec<(String, Box<dyn Sampler>)> {
    let all = [
        SamplerConfig::Ddpm { gamma: 0.0 },
        SamplerConfig::Ddpm { gamma: 0.3 },
        SamplerConfig::Ddim { eta: 0.0 },
        SamplerConfig::Ddim { eta: 0.7 },
    ];
    let mut samplers: Vec<_> =
        all.iter().map(|config| (format!("{config:?}"), config.build().unwrap())).collect();
    samplers.push(("two steps".to_owned(), Box::new(known::TwoSteps)));
    samplers.push(("corrected".to_owned(), Box::new(known::Corrected(Ancestral { gamma: 0.0 }))));
    samplers
}

fn grid(steps: usize) -> Vec<NoiseLevel> {
    Spacing::UniformT.grid(&cosine(), steps).unwrap()
}

/// Mean (2) and covariance (2 2) of what a sampler makes of standard normal noise, without drawing:
/// row 0 of the batch sees no noise at all, and every other row one number of all that is drawn.
fn exact(sampler: &dyn Sampler, steps: usize, denoiser: &dyn Denoiser, rows: i64) -> Moments {
    let mut noise = Probe::default();
    let grid = grid(steps);
    let x = noise.draw(rows);
    let x = run(sampler, denoiser, &cosine(), &grid, &x, &mut noise);
    assert!(2 * noise.drawn < rows, "{} draws of a pair in {rows} rows", noise.drawn);
    let mean = x.get(0);
    let columns = x.narrow(0, 1, rows - 1) - &mean;
    Moments { covariance: columns.transpose(0, 1).matmul(&columns), mean }
}

struct Moments {
    mean: Tensor,
    covariance: Tensor,
}

/// Mean and covariance of the pairs that were sampled.
fn measured(x: &Tensor) -> Moments {
    let mean = x.mean_dim(0, false, Kind::Double);
    let off = x - &mean;
    let n = x.size()[0] as f64;
    Moments { covariance: off.transpose(0, 1).matmul(&off) / (n - 1.0), mean }
}

const N: i64 = 100_000;
const STEPS: usize = 6;

#[test]
fn samples_have_the_mean_and_covariance_that_the_affine_map_foretells() {
    // Every sampler is shown the same draws: its own are independent all the same.
    let mut pool = Recorded::new(SeededNoise::new(3, 0), N);
    for (name, sampler) in samplers() {
        for (weight, replace) in [(1.5, true), (1.5, false), (0.0, true)] {
            let rows = 2 * 40 * STEPS as i64 + 3;
            let expected =
                exact(&*sampler, STEPS, &completed(0.7, rows, config(weight, replace)), rows);
            pool.rewind();
            let x = pool.draw();
            let denoiser = completed(0.7, N, config(weight, replace));
            let x = run(&*sampler, &denoiser, &cosine(), &grid(STEPS), &x, &mut pool);
            let got = measured(&x);
            let case = format!("{name}, w_r {weight}, replacement {replace}");
            assert_moments_within_four_errors(&got, &expected, &case);
        }
    }
}

fn assert_moments_within_four_errors(got: &Moments, expected: &Moments, case: &str) {
    let n = N as f64;
    let at = |moments: &Moments, i: i64, j: i64| moments.covariance.double_value(&[i, j]);
    for i in 0..2 {
        let (got_mean, mean) = (got.mean.double_value(&[i]), expected.mean.double_value(&[i]));
        // 1e-10 is for numbers that do not vary, whose standard error is 0.
        let bound = 4.0 * (at(expected, i, i) / n).sqrt() + 1e-10;
        assert!((got_mean - mean).abs() < bound, "{case}: mean {i} is {got_mean}, not {mean}");
        for j in 0..=i {
            let (own, exact) = (at(got, i, j), at(expected, i, j));
            let product = at(expected, i, i) * at(expected, j, j);
            let bound = 4.0 * ((product + exact * exact) / n).sqrt() + 1e-10;
            assert!((own - exact).abs() < bound, "{case}: covariance {i} {j}: {own}, not {exact}");
        }
    }
}

#[test]
fn the_gradient_brings_the_mean_nearer_to_the_true_one_than_replacement_alone() {
    let rows = 2 * 3 * 128 + 3;
    let sampler = Ancestral { gamma: 0.0 };
    let mean = |rho: f64, weight: f64| {
        let denoiser = completed(rho, rows, config(weight, true));
        exact(&sampler, 128, &denoiser, rows).mean.double_value(&[1])
    };
    for rho in [0.5, 0.9] {
        let truth = rho * GIVEN;
        let [replaced, one, two] = [0.0, 1.0, 2.0].map(|weight| mean(rho, weight));
        for guided in [one, two] {
            assert!((guided - truth).abs() < (replaced - truth).abs(), "{rho}: {guided}");
        }
    }
}
