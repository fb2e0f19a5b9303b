//! Log-likelihoods of densities with closed forms.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use std::f64::consts::{LN_2, TAU};

use known::{Flow, Gaussian, Mixture, cosine, doubles, even, largest, random, values};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{
    Denoiser, Integrator, Likelihood, NoiseLevel, Probe, Result, Schedule, SeededNoise, Spacing,
    log_likelihood,
};

fn nats(settings: Likelihood, density: &dyn Denoiser, grid: &[NoiseLevel], x: &Tensor) -> Tensor {
    let noise = &mut SeededNoise::new(1, 0);
    log_likelihood(&settings, density, &cosine(), grid, x, noise).unwrap().nats
}

fn with(integrator: Integrator) -> Likelihood {
    Likelihood { integrator, ..Likelihood::default() }
}

/// The log-density of independent normal values, summed over a sample.
fn normal_nats(x: &Tensor, mean: &Tensor, variance: f64) -> Tensor {
    let each = (x - mean).square() * (-0.5 / variance) - 0.5 * (TAU * variance).ln();
    each.sum_dim_intlist(1, false, Kind::Double)
}

/// The model's exact result: the flow preserves density except for its divergence, and starts at a
/// centred normal density, whereas the noised data still have a trace of their mean.
fn from_start(data: [Tensor; 2], latent: &Tensor, first: NoiseLevel) -> Tensor {
    let variance = first.alpha.powi(2) + first.sigma.powi(2);
    let [at_last, at_first] = data;
    at_last - at_first + normal_nats(latent, &latent.zeros_like(), variance)
}

fn gaussian_nats(density: &Gaussian, grid: &[NoiseLevel], x: &Tensor) -> Tensor {
    let (first, last) = (grid[0], *grid.last().unwrap());
    let [at_first, at_last] = [first, last].map(|at| density.variance(at));
    let off = x - &density.mean * last.alpha;
    let latent = off * (at_first / at_last).sqrt() + &density.mean * first.alpha;
    let data = [(x, last), (&latent, first)]
        .map(|(x, at)| normal_nats(x, &(&density.mean * at.alpha), density.variance(at)));
    from_start(data, &latent, first)
}

/// Independent values of the mixture.
fn mixture_nats(grid: &[NoiseLevel], x: &Tensor) -> Tensor {
    let (first, last) = (grid[0], *grid.last().unwrap());
    let latent = Mixture::flow(x, last, first);
    let data = [(x, last), (&latent, first)].map(|(x, at)| {
        let part = |weight: f64, mean: f64, std: f64| {
            let variance = (at.alpha * std).powi(2) + at.sigma.powi(2);
            let off = x - at.alpha * mean;
            (off.square() * (-0.5 / variance)).exp() * (weight / (TAU * variance).sqrt())
        };
        let density = part(0.3, -1.0, 0.4) + part(0.7, 0.8, 0.5);
        density.log().sum_dim_intlist(1, false, Kind::Double)
    });
    from_start(data, &latent, first)
}

/// Errors at n, 2 n and 4 n steps, and the orders between them.
fn measure(n: usize, error: impl Fn(&[NoiseLevel]) -> f64) -> ([f64; 3], [f64; 2]) {
    let errors = [n, 2 * n, 4 * n].map(|n| error(&even(n)));
    (errors, [(errors[0] / errors[1]).log2(), (errors[1] / errors[2]).log2()])
}

fn assert_orders(name: &str, n: usize, declared: f64, error: impl Fn(&[NoiseLevel]) -> f64) {
    let (errors, orders) = measure(n, error);
    // The remainder of the next order halves as well.
    assert!((orders[1] - declared).abs() < 0.15, "{name}: errors {errors:?}, orders {orders:?}");
}

#[test]
fn a_gaussian_has_its_density() {
    let x = random(1, &[5, 4], Kind::Double) * 0.7;
    let density = Gaussian { mean: doubles(&[0.4, -0.2, 0.0, 0.9]), std: 0.5 };
    let error = |settings: Likelihood| {
        let (density, x) = (&density, &x);
        move |grid: &[NoiseLevel]| {
            let exact = gaussian_nats(density, grid, x);
            largest(&(nats(settings, density, grid, x) - exact))
        }
    };
    assert_orders("Heun, Gaussian", 64, 2.0, error(with(Integrator::Heun)));
    assert_orders("RK4, Gaussian", 64, 4.0, error(with(Integrator::Rk4)));
    let fine = error(with(Integrator::Rk4))(&even(256));
    assert!(fine < 1e-6, "{fine}");
}

#[test]
fn a_mixture_has_its_density() {
    let x = random(2, &[5, 3], Kind::Double);
    let error = |settings: Likelihood| {
        let x = &x;
        move |grid: &[NoiseLevel]| {
            let exact = mixture_nats(grid, x);
            largest(&(nats(settings, &Mixture, grid, x) - exact))
        }
    };
    assert_orders("Heun, mixture", 64, 2.0, error(with(Integrator::Heun)));
    assert_orders("RK4, mixture", 64, 4.0, error(with(Integrator::Rk4)));
}

#[test]
fn the_flow_begins_at_pure_noise_as_well() {
    // From alpha = 0, but not to sigma = 0.
    let grid = Spacing::UniformT.grid(&Flow, 200).unwrap();
    let x = random(3, &[4, 2], Kind::Double);
    let grid = &grid[..200];
    let settings = with(Integrator::Rk4);
    let got = log_likelihood(&settings, &Mixture, &Flow, grid, &x, &mut SeededNoise::new(1, 0));
    let exact = mixture_nats(grid, &x);
    let miss = largest(&(got.unwrap().nats - exact));
    assert!(miss < 1e-5, "{miss}");
}

/// Pairs of values, each N(0, 1), with this correlation: the Jacobian is not diagonal.
#[derive(Debug)]
struct Correlated(f64);

impl Denoiser for Correlated {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        // along (1, 1) the variance is 1 + rho, along (1, -1) it is 1 - rho
        let gain = |v: f64| at.alpha * v / (at.alpha * at.alpha * v + at.sigma * at.sigma);
        let (sum, difference) = (0.5 * gain(1.0 + self.0), 0.5 * gain(1.0 - self.0));
        Ok(x * (sum + difference) + x.flip([1]) * (sum - difference))
    }
}

#[test]
fn both_probes_are_right_on_average() {
    // Many probes, each in its own row: 2000 results for one point.
    let (grid, rows) = (even(48), 2000);
    let x = doubles(&[0.8, -0.3]).expand([rows, 2], false).contiguous();
    let at = *grid.last().unwrap();
    let axes = |v: f64| at.alpha * at.alpha * v + at.sigma * at.sigma;
    let (along, across) = (0.5f64.sqrt() * (0.8 - 0.3), 0.5f64.sqrt() * (0.8 + 0.3));
    let term = |u: f64, v: f64| -0.5 * (u * u / v + (TAU * v).ln());
    let exact = term(along, axes(1.7)) + term(across, axes(0.3));
    for probe in [Probe::Rademacher, Probe::Normal] {
        let mut spreads = Vec::new();
        for probes in [1, 4] {
            let settings = Likelihood { probe, probes, integrator: Integrator::Rk4 };
            let got = nats(settings, &Correlated(0.7), &grid, &x);
            let mean = got.mean(Kind::Double).double_value(&[]);
            let spread = got.std(true).double_value(&[]);
            // Four standard errors, plus the error of integrating in 48 steps (measured: below
            // 1e-3).
            let tolerance = 4.0 * spread / (rows as f64).sqrt() + 1e-3;
            assert!((mean - exact).abs() < tolerance, "{probe:?}: {mean} for {exact}, {spread}");
            assert!(spread > 0.01, "the Jacobian is not diagonal: {spread}");
            spreads.push(spread);
        }
        // Four probes halve the standard deviation; its relative error from 2000 samples is 1 /
        // sqrt(4000), and four of these are allowed.
        let ratio = spreads[0] / spreads[1];
        assert!((ratio / 2.0 - 1.0).abs() < 0.15, "{probe:?}: {ratio}");
    }
}

#[test]
fn an_answer_does_not_depend_on_its_batch() {
    let (grid, density) = (even(12), Correlated(0.5));
    let x = random(5, &[5, 2], Kind::Double);
    for probe in [Probe::Rademacher, Probe::Normal] {
        let settings = Likelihood { probe, probes: 2, integrator: Integrator::Heun };
        let ask = |x: &Tensor, first: u64| {
            let noise = &mut SeededNoise::new(9, first);
            log_likelihood(&settings, &density, &cosine(), &grid, x, noise).unwrap()
        };
        let (whole, part) = (ask(&x, 0), ask(&x.narrow(0, 2, 2), 2));
        assert!(largest(&(whole.nats.narrow(0, 2, 2) - part.nats)) < 1e-12);
        assert!(largest(&(whole.latent.narrow(0, 2, 2) - part.latent)) < 1e-14);
    }
}

#[test]
fn bits_per_dimension_are_nats_over_ln_2_and_size() {
    let x = random(6, &[3, 2, 2], Kind::Float);
    let noise = &mut SeededNoise::new(1, 0);
    let settings = Likelihood::default();
    let got = log_likelihood(&settings, &Mixture, &cosine(), &even(8), &x, noise).unwrap();
    assert_eq!((got.nats.kind(), got.nats.size(), got.dimensions), (Kind::Double, vec![3], 4));
    for (bits, nats) in values(&got.bits_per_dim()).iter().zip(values(&got.nats)) {
        assert!((bits + nats / (4.0 * LN_2)).abs() < 1e-14);
    }
}

/// A network whose parameters are being trained.
#[derive(Debug)]
struct Trained(Tensor);

impl Denoiser for Trained {
    fn denoise(&self, x: &Tensor, _: NoiseLevel) -> Result<Tensor> {
        Ok(x * &self.0)
    }
}

#[test]
fn gradients_go_to_x_alone_even_where_they_are_off() {
    let network = Trained(doubles(&[0.5]).set_requires_grad(true));
    let x = random(7, &[2, 3], Kind::Double);
    let got = vd_diffusion::tch::no_grad(|| nats(Likelihood::default(), &network, &even(4), &x));
    assert!(!got.requires_grad() && !network.0.grad().defined());
    let got = nats(Likelihood::default(), &network, &even(4), &x);
    assert!(!got.requires_grad() && !network.0.grad().defined());
}

#[test]
fn misuse_is_refused() {
    #[derive(Debug)]
    struct Cut;
    impl Denoiser for Cut {
        fn denoise(&self, x: &Tensor, _: NoiseLevel) -> Result<Tensor> {
            Ok(x.detach())
        }
    }
    let x = random(8, &[2, 3], Kind::Double);
    let refused = |settings: Likelihood, density: &dyn Denoiser, grid: &[NoiseLevel]| {
        let noise = &mut SeededNoise::new(1, 0);
        let end = log_likelihood(&settings, density, &Flow, grid, &x, noise);
        end.unwrap_err().to_string()
    };
    let levels = [0.9, 0.5, 0.0].map(|t| Flow.at(t));
    let settings = Likelihood::default();
    assert!(refused(settings, &Mixture, &levels).contains("omit the clean one"));
    assert!(refused(settings, &Mixture, &levels[..1]).contains("at least two levels"));
    assert!(refused(settings, &Cut, &levels[..2]).contains("differentiable in x"));
    let none = Likelihood { probes: 0, ..settings };
    assert!(refused(none, &Mixture, &levels[..2]).contains("at least 1"));
}
