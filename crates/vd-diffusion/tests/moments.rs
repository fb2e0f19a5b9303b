//! Mean and variance of stochastic samplers on a Gaussian, without sampling: the state is its
//! vector of coefficients on (1, start, every draw), on which an affine step is exact.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{
    Basis, Exploding, Flow, Gaussian, Mixture, cosine, even, largest, random, run, unit, values,
};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{
    Ancestral, Ddim, Denoiser, DpmPp2m, DpmPp2s, DpmPp3m, Heun, Line, NoiseLevel, Result, Sampler,
    SamplerConfig, Schedule, SeededNoise, Spacing,
};

/// Error of the final mean, and relative error of the final variance.
fn moment_errors(
    sampler: &dyn Sampler,
    schedule: &dyn Schedule,
    grid: &[NoiseLevel],
) -> (f64, f64) {
    let n = grid.len() as i64 + 2;
    let density = Gaussian { mean: unit(n, 0) * 0.5, std: 0.5 };
    let first = density.variance(grid[0]).sqrt();
    let x = &density.mean * grid[0].alpha + unit(n, 1) * first;
    let x = values(&run(sampler, &density, schedule, grid, &x, &mut Basis { drawn: 2 }));
    let last = *grid.last().unwrap();
    let variance: f64 = x[1..].iter().map(|c| c * c).sum();
    ((x[0] - 0.5 * last.alpha).abs(), (variance / density.variance(last) - 1.0).abs())
}

/// Errors of the variance at 128 and 256 steps: over the cosine, over EDM's levels, and on the
/// straight line from no signal to no noise. The mean is always exact.
fn variance_errors(sampler: &dyn Sampler) -> [[f64; 2]; 3] {
    let in_t = |n| Spacing::UniformT.grid(&Flow, n).unwrap();
    let checked = |(mean, variance): (f64, f64)| {
        assert!(mean < 1e-13, "{sampler:?}: the mean is exact, not off by {mean}");
        variance
    };
    [
        [128, 256].map(|n| checked(moment_errors(sampler, &cosine(), &even(n)))),
        [128, 256].map(|n| checked(moment_errors(sampler, &Exploding, &Exploding::karras(n)))),
        [128, 256].map(|n| checked(moment_errors(sampler, &Flow, &in_t(n)))),
    ]
}

/// The errors at 256 steps and the orders were also measured with an implementation on plain
/// vectors, which shares no code with this crate; they are given to two digits.
fn assert_variance(sampler: &dyn Sampler, known: [f64; 3], orders: [f64; 3]) {
    for ((got, known), order) in variance_errors(sampler).iter().zip(known).zip(orders) {
        let measured = (got[0] / got[1]).log2();
        assert!((got[1] / known - 1.0).abs() < 0.06, "{sampler:?}: {got:?} for {known}");
        assert!((measured - order).abs() < 0.06, "{sampler:?}: order {measured} for {order}");
    }
}

#[test]
fn ancestral_sampling_has_the_right_variance_to_first_order() {
    let gamma = |gamma| Ancestral { gamma };
    assert_variance(&gamma(0.0), [7.4e-2, 4.6e-2, 2.6e-2], [0.93, 0.95, 0.95]);
    assert_variance(&gamma(0.3), [4.3e-2, 2.0e-2, 1.7e-2], [0.95, 0.96, 0.96]);
    assert_variance(&gamma(1.0), [3.5e-2, 4.2e-2, 4.6e-3], [1.03, 1.04, 0.99]);
}

#[test]
fn ddim_with_half_the_noise_has_the_right_variance_to_first_order() {
    assert_variance(&Ddim { eta: 0.5 }, [4.7e-2, 2.8e-2, 1.5e-2], [0.95, 0.97, 0.97]);
}

#[test]
fn dpm_solvers_with_noise_have_the_right_variance_to_second_order() {
    let two_s = DpmPp2s { eta: 1.0 };
    assert_variance(&two_s, [3.0e-3, 1.1e-3, 6.7e-4], [1.95, 1.96, 1.79]);
    assert_variance(&DpmPp2m::new(1.0), [2.0e-3, 1.2e-3, 1.9e-3], [1.99, 2.03, 1.78]);
    assert_variance(&DpmPp3m::new(1.0), [6.9e-4, 2.3e-4, 6.0e-4], [2.1, 1.7, 2.0]);
}

#[test]
fn heun_with_churn_has_the_right_variance_to_second_order() {
    let churn = |line| Heun { churn: 40.0, line, ..Heun::default() };
    assert_variance(&churn(Line::Edm), [6.6e-3, 3.8e-3, 2.3e-3], [1.96, 1.93, 1.90]);
    assert_variance(&churn(Line::Flow), [8.6e-4, 1.4e-4, 3.7e-4], [1.75, 1.5, 2.0]);
}

#[test]
fn churn_is_kept_to_its_band_and_scaled() {
    let grid = even(16);
    let churn = Heun { churn: 8.0, ..Heun::default() };
    let draws = |heun: Heun| {
        let mut noise = Basis { drawn: 2 };
        let density = Gaussian { mean: unit(40, 0) * 0.5, std: 0.5 };
        let end = run(&heun, &density, &cosine(), &grid, &unit(40, 1), &mut noise);
        (noise.drawn - 2, values(&end))
    };
    // The first level is the noisiest one: no noise can be added to it.
    assert_eq!(draws(churn).0, 15);
    let ratio = |at: &NoiseLevel| at.sigma / at.alpha;
    let inside = grid[..16].iter().filter(|at| (0.1..=10.0).contains(&ratio(at))).count();
    assert_eq!(draws(Heun { churn_min: 0.1, churn_max: 10.0, ..churn }).0, inside as i64);
    // The flow is affine in each draw.
    let (whole, half) = (draws(churn).1, draws(Heun { churn_noise: 0.5, ..churn }).1);
    for (whole, half) in whole[2..].iter().zip(&half[2..]) {
        assert!((0.5 * whole - half).abs() < 1e-14);
    }
}

#[test]
fn the_order_that_the_table_states_is_the_measured_one() {
    for config in SamplerConfig::all() {
        let facts = config.facts();
        let Some(stated) = facts.order else { continue };
        // Restart draws at its jumps; its moments have a separate test.
        if facts.deterministic || facts.name == "restart" {
            continue;
        }
        let sampler = config.build().unwrap();
        let orders = variance_errors(sampler.as_ref()).map(|e| (e[0] / e[1]).log2());
        // Contributions of other orders: up to a third at these steps.
        assert!(
            orders.iter().all(|order| (order - stated as f64).abs() < 0.35),
            "{}: {orders:?}",
            facts.name
        );
    }
}

#[test]
fn ddim_with_eta_one_is_ancestral_with_gamma_zero() {
    let x = random(5, &[3, 4], Kind::Double);
    let end = |sampler: &dyn Sampler| {
        run(sampler, &Mixture, &cosine(), &even(20), &x, &mut SeededNoise::new(1, 0))
    };
    let (a, b) = (end(&Ddim { eta: 1.0 }), end(&Ancestral { gamma: 0.0 }));
    assert!(largest(&(a - b)) < 1e-14);
}

/// Always returns the second unit vector.
#[derive(Debug)]
struct Second;

impl Denoiser for Second {
    fn denoise(&self, x: &Tensor, _: NoiseLevel) -> Result<Tensor> {
        Ok(unit(x.size()[0], 1))
    }
}

/// The factors of the state, x0-hat and the noise in one step.
fn coefficients(sampler: &dyn Sampler, from: NoiseLevel, to: NoiseLevel) -> Vec<f64> {
    values(&run(sampler, &Second, &cosine(), &[from, to], &unit(3, 0), &mut Basis { drawn: 2 }))
}

#[test]
fn an_ancestral_step_has_the_coefficients_of_the_paper() {
    let schedule = cosine();
    let (from, to) = (schedule.at(0.5), schedule.at(0.5 - 1.0 / 256.0));
    for (gamma, variance) in [(0.0, 0.01197333), (0.3, 0.01201776), (1.0, 0.01212208)] {
        let got = coefficients(&Ancestral { gamma }, from, to);
        let expected = [0.98172425, 0.01724807, variance];
        for (got, expected) in [got[0], got[1], got[2] * got[2]].iter().zip(expected) {
            // Half a unit in the last digit given.
            assert!((got - expected).abs() < 0.51e-8, "gamma {gamma}: {got} for {expected}");
        }
    }
}

#[test]
fn an_ancestral_step_to_clean_is_x0_hat() {
    let schedule = Flow;
    for gamma in [0.0, 0.5, 1.0] {
        let got = coefficients(&Ancestral { gamma }, schedule.at(0.1), schedule.at(0.0));
        assert_eq!(got, [0.0, 1.0, 0.0]);
    }
}
