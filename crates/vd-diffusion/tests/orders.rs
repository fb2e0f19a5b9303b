//! How fast samplers approach the flow of densities whose flow is known.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{Basis, Flow, Gaussian, Mixture, TwoSteps, doubles, even, largest, random, run};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{Ddim, Denoiser, NoiseLevel, Sampler, Schedule, Spacing};

/// Errors at 64, 128 and 256 steps, and the orders between.
fn measure(
    sampler: &dyn Sampler,
    density: &dyn Denoiser,
    schedule: &dyn Schedule,
    grid: &dyn Fn(usize) -> Vec<NoiseLevel>,
    exact: &dyn Fn(&Tensor, NoiseLevel, NoiseLevel) -> Tensor,
) -> ([f64; 3], [f64; 2]) {
    let x = doubles(&[-1.7, -0.3, 0.2, 0.9, 1.6]);
    let errors = [64, 128, 256].map(|n| {
        let grid = grid(n);
        let end = run(sampler, density, schedule, &grid, &x, &mut Basis { drawn: 0 });
        largest(&(end - exact(&x, grid[0], grid[n])))
    });
    (errors, [(errors[0] / errors[1]).log2(), (errors[1] / errors[2]).log2()])
}

fn gaussian() -> Gaussian {
    Gaussian { mean: doubles(&[0.0; 5]), std: 0.5 }
}

/// The flow of a centred Gaussian keeps x over its standard deviation.
fn gaussian_flow(x: &Tensor, from: NoiseLevel, to: NoiseLevel) -> Tensor {
    let density = gaussian();
    x * (density.variance(to) / density.variance(from)).sqrt()
}

fn assert_order(name: &str, got: ([f64; 3], [f64; 2]), declared: f64) {
    let [coarse, fine] = got.1.map(|order| (order - declared).abs());
    // What is left of the next order halves as well.
    assert!(coarse < 0.1 && fine < 0.05, "{name}: errors and orders {got:?}");
}

#[test]
fn ddim_is_of_order_one() {
    let ddim = Ddim { eta: 0.0 };
    let schedule = known::cosine();
    let got = measure(&ddim, &gaussian(), &schedule, &even, &gaussian_flow);
    assert_order("DDIM, Gaussian", got, 1.0);
    let got = measure(&ddim, &Mixture, &schedule, &even, &Mixture::flow);
    assert_order("DDIM, mixture", got, 1.0);
}

#[test]
fn ddim_is_of_order_one_from_pure_noise_to_clean() {
    let in_t = |n| Spacing::UniformT.grid(&Flow, n).unwrap();
    let got = measure(&Ddim { eta: 0.0 }, &Mixture, &Flow, &in_t, &Mixture::flow);
    assert_order("DDIM, mixture, straight line", got, 1.0);
}

#[test]
fn a_multistep_sampler_of_another_crate_is_of_order_two() {
    let schedule = known::cosine();
    let got = measure(&TwoSteps, &gaussian(), &schedule, &even, &gaussian_flow);
    assert_order("2M, Gaussian", got, 2.0);
    let got = measure(&TwoSteps, &Mixture, &schedule, &even, &Mixture::flow);
    assert_order("2M, mixture", got, 2.0);
}

#[test]
fn one_step_from_pure_noise_to_clean_is_the_denoised_mean() {
    let x = random(3, &[4, 2], Kind::Double);
    let grid = Spacing::UniformT.grid(&Flow, 1).unwrap();
    let end = run(&Ddim { eta: 0.0 }, &Mixture, &Flow, &grid, &x, &mut Basis { drawn: 0 });
    // At alpha = 0 the state says nothing: the answer is the mean of the mixture.
    assert!(largest(&(end - (0.7 * 0.8 - 0.3))) < 1e-15);
}
