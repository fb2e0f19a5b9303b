//! Reconstruction guidance on a pair of correlated normal values, the first of which is known.
//!
//! There the guided denoiser is affine, so a sampler's final mean and covariance follow exactly
//! from its affine map, and samples can be compared with them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::pairs::{Correlated, Draws, Probe, Recorded};
use known::{cosine, doubles, run};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{
    Ancestral, Denoiser, Heun, Known, Langevin, Noise, NoiseLevel, Reconstruction,
    ReconstructionConfig, Result, Sampler, SamplerConfig, Spacing, UniPc,
};

/// The value of the first component; its mean is 0.
const GIVEN: f64 = 1.2;

/// The first component of each pair.
fn first() -> Known {
    Known::pixels(doubles(&[GIVEN, 0.0]).view([1, 2]), Tensor::from_slice(&[true, false]))
}

/// Guidance of a pair, written out: x0-hat is affine, and so is the correction.
struct Closed {
    density: Correlated,
    config: ReconstructionConfig,
}

impl Denoiser for Closed {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        let (same, other) = self.density.gains(at);
        let (a, b) = (x.select(1, 0), x.select(1, 1));
        let (mut first, second) = (&a * same + &b * other, a * other + b * same);
        // The gradient of (first - GIVEN)^2 is 2 (first - GIVEN) (same, other).
        let pull = (&first - GIVEN) * (self.config.weight * at.alpha);
        let second = second - &pull * other;
        first -= pull * same;
        if self.config.replace {
            first = first.zeros_like() + GIVEN;
        }
        Ok(Tensor::stack(&[first, second], 1))
    }

    fn constrain(&self, x: Tensor, at: NoiseLevel, noise: &mut dyn Noise) -> Result<Tensor> {
        if !self.config.replace {
            return Ok(x);
        }
        let drawn = noise.normal(&x).select(1, 0) * at.sigma + at.alpha * GIVEN;
        Ok(Tensor::stack(&[drawn, x.select(1, 1)], 1))
    }
}

fn completed(rho: f64, b: i64, config: ReconstructionConfig) -> Reconstruction<Correlated> {
    Reconstruction::new(Correlated(rho), vec![first()], &[b, 2], config).unwrap()
}

fn config(weight: f64, replace: bool) -> ReconstructionConfig {
    ReconstructionConfig { weight, replace, every: 1 }
}

/// Every sampler with its defaults, and some other settings.
fn samplers() -> Vec<(String, Box<dyn Sampler>)> {
    let mut configs = SamplerConfig::all();
    configs.push(SamplerConfig::Ancestral { gamma: 0.3 });
    configs.push(SamplerConfig::Ddim { eta: 0.7 });
    configs.push(SamplerConfig::heun(Heun { churn: 2.0, ..Heun::default() }));
    let named = |config: SamplerConfig| (format!("{config:?}"), config.build().unwrap());
    let mut samplers: Vec<_> = configs.into_iter().map(named).collect();
    let corrected = Langevin { inner: UniPc::new(3), delta: 0.1 };
    samplers.push((format!("{corrected:?}"), Box::new(corrected)));
    samplers
}

fn grid(steps: usize) -> Vec<NoiseLevel> {
    Spacing::UniformT.grid(&cosine(), steps).unwrap()
}

/// Mean (2) and covariance (2 2) of a sampler's results for standard normal noise, without
/// sampling: row 0 of the batch gets no noise at all, and every other row one component of the
/// draws.
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

/// Mean and covariance of the sampled pairs.
fn measured(x: &Tensor) -> Moments {
    let mean = x.mean_dim(0, false, Kind::Double);
    let off = x - &mean;
    let n = x.size()[0] as f64;
    Moments { covariance: off.transpose(0, 1).matmul(&off) / (n - 1.0), mean }
}

const N: i64 = 100_000;
const STEPS: usize = 5;

static DRAWS: Draws = Draws::new(Vec::new());

fn assert_samples_agree(weight: f64, replace: bool) {
    let config = config(weight, replace);
    // Every sampler gets the same draws, which are still independent within its run.
    let mut pool = Recorded::new(&DRAWS, N);
    for (name, sampler) in samplers() {
        let rows = 2 * 40 * STEPS as i64 + 3;
        let closed = Closed { density: Correlated(0.7), config };
        let expected = exact(&*sampler, STEPS, &closed, rows);
        pool.rewind();
        let x = pool.draw();
        let denoiser = completed(0.7, N, config);
        let x = run(&*sampler, &denoiser, &cosine(), &grid(STEPS), &x, &mut pool);
        assert_moments_within_four_errors(&measured(&x), &expected, &name);
    }
}

#[test]
fn samples_with_replacement_have_the_moments_that_the_affine_map_foretells() {
    assert_samples_agree(1.5, true);
}

#[test]
fn samples_without_replacement_have_the_moments_that_the_affine_map_foretells() {
    assert_samples_agree(1.5, false);
}

#[test]
fn samples_by_replacement_alone_have_the_moments_that_the_affine_map_foretells() {
    assert_samples_agree(0.0, true);
}

fn assert_moments_within_four_errors(got: &Moments, expected: &Moments, case: &str) {
    let n = N as f64;
    let at = |moments: &Moments, i: i64, j: i64| moments.covariance.double_value(&[i, j]);
    for i in 0..2 {
        let (got_mean, mean) = (got.mean.double_value(&[i]), expected.mean.double_value(&[i]));
        // 1e-10 is for values that do not vary, with a standard error of 0.
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
    // By replacement alone and at w_r = 1 and 2; those at .5 are within 2e-3 of samples from an
    // implementation without tensors.
    for (rho, known) in [(0.5, [0.3185, 0.4188, 0.5142]), (0.9, [0.7460, 0.9066, 1.0237])] {
        let truth = rho * GIVEN;
        let [replaced, one, two] = [0.0, 1.0, 2.0].map(|weight| mean(rho, weight));
        for guided in [one, two] {
            assert!((guided - truth).abs() < (replaced - truth).abs(), "{rho}: {guided}");
        }
        for (got, known) in [replaced, one, two].into_iter().zip(known) {
            assert!((got - known).abs() < 1e-4, "{rho}: {got}, not {known}");
        }
        assert!(mean(rho, 6.0) > truth, "{rho}: a weight of 6 overshoots");
    }
}
