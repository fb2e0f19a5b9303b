//! Restart, Langevin correction and the consistency step, on densities with known results.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use std::cell::RefCell;

use known::{Basis, Flow, Gaussian, Mixture, TwoSteps, cosine, even, largest, random, run, unit};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{
    Boundary, CosineDiscrete, Ddim, Denoiser, Interval, Langevin, Lcm, Noise, NoiseLevel, Restart,
    Result, Sampler, Schedule, SeededNoise, Spacing, Step, StepTaken, keep_going, sample,
};

/// Error of the final mean, and relative error of the final variance, exactly: the state is its
/// coefficients on (1, start, every draw).
fn moment_errors(
    sampler: &dyn Sampler,
    schedule: &dyn Schedule,
    grid: &[NoiseLevel],
) -> (f64, f64) {
    let n = 3 * grid.len() as i64;
    let density = Gaussian { mean: unit(n, 0) * 0.5, std: 0.5 };
    let first = density.variance(grid[0]).sqrt();
    let x = &density.mean * grid[0].alpha + unit(n, 1) * first;
    let x = known::values(&run(sampler, &density, schedule, grid, &x, &mut Basis { drawn: 2 }));
    let last = *grid.last().unwrap();
    let variance: f64 = x[1..].iter().map(|c| c * c).sum();
    ((x[0] - 0.5 * last.alpha).abs(), (variance / density.variance(last) - 1.0).abs())
}

fn in_t(n: usize) -> Vec<NoiseLevel> {
    Spacing::UniformT.grid(&Flow, n).unwrap()
}

/// Errors of the variance at 64, 128 and 256 steps, on the paper's cosine and on the straight line.
fn variance_errors(sampler: &dyn Sampler) -> [[f64; 3]; 2] {
    let on_cosine = [64, 128, 256].map(|n| moment_errors(sampler, &cosine(), &even(n)));
    let on_flow = [64, 128, 256].map(|n| moment_errors(sampler, &Flow, &in_t(n)));
    [on_cosine, on_flow].map(|errors| {
        assert!(errors.iter().all(|e| e.0 < 1e-13), "the mean is exact: {errors:?}");
        errors.map(|e| e.1)
    })
}

#[test]
fn restart_keeps_the_order_of_the_sampler_that_it_restarts() {
    let sampler = Restart { inner: Box::new(TwoSteps), low: 0.05, high: 2.0, times: 2 };
    // Errors and orders were measured with an implementation on plain vectors.
    let declared = [(6.0e-4, 1.97), (4.5e-4, 1.78)];
    for (errors, (error, order)) in variance_errors(&sampler).iter().zip(declared) {
        let got = (errors[1] / errors[2]).log2();
        assert!((errors[2] / error - 1.0).abs() < 0.03, "{errors:?}");
        assert!((got - order).abs() < 0.02, "order {got}");
    }
}

#[test]
fn restart_goes_through_its_band_again_and_counts_only_the_falls() {
    let sampler = Restart { inner: Box::new(Ddim { eta: 0.0 }), low: 0.3, high: 2.5, times: 2 };
    let times = |levels: &[NoiseLevel]| -> Vec<f64> {
        levels.iter().map(|at| (at.t * 10.0).round()).collect()
    };
    // sigma / alpha at t = 0.7 is 2.33, at t = 0.3 it is 0.43.
    let planned = sampler.plan(in_t(10));
    let band = [7.0, 6.0, 5.0, 4.0, 3.0];
    let expected: Vec<f64> = [&[10.0, 9.0, 8.0][..], &band.repeat(3), &[2.0, 1.0, 0.0]].concat();
    assert_eq!(times(&planned), expected);

    let x = random(1, &[2, 3], Kind::Double);
    let mut seen = 0;
    let planned: Vec<_> = planned.windows(2).filter(|pair| pair[1].t < pair[0].t).collect();
    let mut count = |taken: &StepTaken<'_>| {
        assert_eq!((taken.index, taken.of), (seen, 10 + 2 * 4));
        assert_eq!([taken.from, taken.to], planned[seen]);
        seen += 1;
        std::ops::ControlFlow::Continue(())
    };
    let mut noise = SeededNoise::new(1, 0);
    let _ = sample(&sampler, &Mixture, &Flow, &in_t(10), x, &mut noise, &mut count).unwrap();
    assert_eq!(seen, 10 + 2 * 4);
}

#[test]
fn restart_without_levels_in_its_band_is_the_inner_sampler() {
    let x = random(2, &[3], Kind::Double);
    for (low, high) in [(0.0, 1e-9), (1e-7, 2e-7), (0.9, 1.1), (1e9, f64::INFINITY)] {
        let sampler = Restart { inner: Box::new(Ddim { eta: 0.0 }), low, high, times: 3 };
        let grid = in_t(8);
        let end = |sampler: &dyn Sampler| {
            run(sampler, &Mixture, &Flow, &grid, &x, &mut SeededNoise::new(1, 0))
        };
        assert_eq!(end(&sampler), end(&Ddim { eta: 0.0 }), "{low} to {high}");
    }
}

#[test]
fn restart_runs_at_any_number_of_steps_from_two_and_around_itself() {
    let table = CosineDiscrete::new(20).unwrap();
    let whole =
        || Restart { inner: Box::new(Restart::default()), low: 0.0, high: f64::INFINITY, times: 1 };
    for sampler in [&Restart::default() as &dyn Sampler, &whole()] {
        for n in 2..9 {
            for schedule in [&cosine() as &dyn Schedule, &table, &Flow] {
                let grid = Spacing::UniformT.grid(schedule, n).unwrap();
                let x = random(n as u64, &[4], Kind::Double);
                let end = run(sampler, &Mixture, schedule, &grid, &x, &mut SeededNoise::new(1, 0));
                assert!(largest(&end) < 10.0, "{n} steps: {end:?}");
            }
        }
    }
}

/// A step that does not move the state.
#[derive(Debug)]
struct Stay;

impl Sampler for Stay {
    fn step(&self, x: &Tensor, over: &Interval<'_>, _: &mut dyn Noise) -> Result<Step> {
        Ok(Step::new(x.shallow_clone(), over.denoise(x, over.from)?))
    }
}

#[test]
fn langevin_at_one_level_ends_at_its_biased_variance() {
    let (at, n, delta) = (cosine().at(0.4), 400, 0.3);
    // Practically one level, but falling.
    let grid: Vec<NoiseLevel> =
        (0..=n).map(|i| cosine().at(at.t - 1e-9 * i as f64 / n as f64)).collect();
    let density = Gaussian { mean: unit(n + 3, 0) * 0.5, std: 0.5 };
    let x = &density.mean * at.alpha + unit(n + 3, 1) * 3.0;
    let sampler = Langevin { inner: Stay, delta };
    let end =
        known::values(&run(&sampler, &density, &cosine(), &grid, &x, &mut Basis { drawn: 2 }));
    let variance: f64 = end[1..].iter().map(|c| c * c).sum();
    let true_one = density.variance(at);
    let expected = true_one / (1.0 - delta * at.sigma * at.sigma / (4.0 * true_one));
    // The start is forgotten as (1 - delta sigma^2 / 2 V)^(2 n), below 1e-20; levels are 1e-9
    // apart.
    assert!((variance / expected - 1.0).abs() < 1e-7, "{variance} for {expected}");
    assert!((end[0] - 0.5 * at.alpha).abs() < 1e-7);
}

#[test]
fn langevin_around_ancestral_steps_has_its_known_bias() {
    let sampler = Langevin { inner: Ddim { eta: 1.0 }, delta: 0.1 };
    // Measured with an implementation on plain vectors.
    for (errors, expected) in variance_errors(&sampler).iter().zip([5.2e-2, 1.3e-2]) {
        assert!((errors[2] / expected - 1.0).abs() < 0.04, "{errors:?}");
    }
}

#[test]
fn langevin_around_a_multistep_sampler_repairs_a_wrong_start() {
    // The start has half the standard deviation: how much of that deficit remains at the end.
    let miss = |sampler: &dyn Sampler| {
        let (grid, n) = (even(128), 300);
        let density = Gaussian { mean: unit(n, 0) * 0.5, std: 0.5 };
        let x = unit(n, 1) * (0.5 * density.variance(grid[0]).sqrt());
        let x = run(sampler, &density, &cosine(), &grid, &x, &mut Basis { drawn: 2 });
        let variance: f64 = known::values(&x)[1..].iter().map(|c| c * c).sum();
        (variance / density.variance(grid[128]) - 1.0).abs()
    };
    let alone = miss(&TwoSteps);
    let corrected = miss(&Langevin { inner: Box::new(TwoSteps) as Box<dyn Sampler>, delta: 0.1 });
    // The flow keeps a quarter of the variance; the correction leaves its own bias.
    assert!((alone - 0.75).abs() < 0.01, "{alone}");
    assert!(corrected < 0.06, "{corrected}");
}

/// Records the states passed to `constrain`, and shifts each.
#[derive(Debug, Default)]
struct Shifts(RefCell<Vec<f64>>);

impl Denoiser for Shifts {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        Mixture.denoise(x, at)
    }
    fn constrain(&self, x: Tensor, at: NoiseLevel, _: &mut dyn Noise) -> Result<Tensor> {
        self.0.borrow_mut().push(at.t);
        Ok(x + 0.125)
    }
}

/// Records its inputs.
#[derive(Debug, Default)]
struct Looks(RefCell<Vec<(Tensor, Option<Tensor>)>>);

impl Sampler for Looks {
    fn step(&self, x: &Tensor, over: &Interval<'_>, noise: &mut dyn Noise) -> Result<Step> {
        let before = over.past.newest(1).next().map(|past| past.x.shallow_clone());
        self.0.borrow_mut().push((x.shallow_clone(), before));
        Ddim { eta: 0.0 }.step(x, over, noise)
    }
}

#[test]
fn langevin_constrains_what_it_makes_and_history_keeps_it() {
    let (denoiser, looks) = (Shifts::default(), Looks::default());
    let grid: Vec<NoiseLevel> = [0.9, 0.6, 0.3].map(|t| cosine().at(t)).to_vec();
    let x = random(3, &[4], Kind::Double);
    let sampler = Langevin { inner: &looks, delta: 0.2 };
    let mut noise = SeededNoise::new(4, 0);
    let _ = run(&sampler, &denoiser, &cosine(), &grid, &x, &mut noise);
    // The start, and at each level the given and the corrected state; the last level is not
    // corrected.
    assert_eq!(denoiser.0.into_inner(), [0.9, 0.9, 0.6, 0.6, 0.3]);

    let seen = looks.0.into_inner();
    assert_eq!(seen[1].1.as_ref().unwrap(), &seen[0].0, "history has the corrected state");
    let first = &x + 0.125;
    let eps = grid[0].eps(&first, &Mixture.denoise(&first, grid[0]).unwrap());
    let z = SeededNoise::new(4, 0).normal(&x);
    let sigma = grid[0].sigma;
    let expected = first - eps * (0.1 * sigma) + z * (0.2f64.sqrt() * sigma) + 0.125;
    assert!(largest(&(&seen[0].0 - expected)) < 1e-14);
}

#[test]
fn a_consistency_step_to_clean_is_x0_hat() {
    let x = random(5, &[2, 3], Kind::Double);
    for t in [1.0, 0.6] {
        let (from, to) = (Flow.at(t), Flow.at(0.0));
        let end = run(&Lcm::default(), &Mixture, &Flow, &[from, to], &x, &mut Basis { drawn: 9 });
        assert_eq!(end, Mixture.denoise(&x, from).unwrap());
    }
}

#[test]
fn consistency_steps_noise_x0_hat_anew() {
    let x = unit(6, 1);
    let grid = [0.8, 0.5, 0.2].map(|t| cosine().at(t));
    let density = Gaussian { mean: unit(6, 0) * 0.5, std: 0.5 };
    let end = run(&Lcm::default(), &density, &cosine(), &grid, &x, &mut Basis { drawn: 2 });
    let gain = |at: NoiseLevel| at.alpha * 0.25 / density.variance(at);
    // Each draw contributes sigma, multiplied by the effect of the later x0-hats and alphas.
    let kept = grid[1].sigma * gain(grid[1]) * grid[2].alpha;
    let started = gain(grid[0]) * grid[1].alpha * gain(grid[1]) * grid[2].alpha;
    let got = known::values(&end);
    for (got, expected) in got[1..4].iter().zip([started, kept, grid[2].sigma]) {
        assert!((got - expected).abs() < 1e-15, "{got} for {expected}");
    }
}

#[test]
fn the_boundary_keeps_the_state_at_step_zero_and_forgets_it_later() {
    // Always 2.
    #[derive(Debug)]
    struct Two;
    impl Denoiser for Two {
        fn denoise(&self, x: &Tensor, _: NoiseLevel) -> Result<Tensor> {
            Ok(x.full_like(2.0))
        }
    }
    let table = CosineDiscrete::new(1000).unwrap();
    let sampler = Lcm { boundary: Some(Boundary::default()) };
    let x = random(6, &[3], Kind::Double);
    for step in [0, 1, 999] {
        let grid = [table.at(f64::from(step + 1) / 1000.0), table.at(0.0)];
        let end = run(&sampler, &Two, &table, &grid, &x, &mut Basis { drawn: 9 });
        let s = 10.0 * f64::from(step);
        let expected = &x * (0.25 / (s * s + 0.25)) + 2.0 * s / (s * s + 0.25).sqrt();
        assert!(largest(&(end - expected)) < 1e-9, "step {step}");
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    let refused = |sampler: &dyn Sampler| {
        let x = random(7, &[2], Kind::Double);
        let mut noise = SeededNoise::new(1, 0);
        let end = sample(sampler, &Mixture, &Flow, &in_t(3), x, &mut noise, &mut keep_going);
        end.unwrap_err().to_string()
    };
    for delta in [-0.1, f64::NAN, 2.1] {
        let message = refused(&Langevin { inner: Ddim { eta: 0.0 }, delta });
        assert!(message.contains("delta") && message.contains("0 to 2"), "{message}");
    }
    for (low, high) in [(-1.0, 1.0), (f64::NAN, 1.0), (2.0, 1.0), (0.0, f64::NAN)] {
        let message = refused(&Restart { low, high, ..Restart::default() });
        assert!(message.contains("sampler restart"), "{message}");
    }
    let message = refused(&Restart { times: usize::MAX, ..Restart::default() });
    assert!(message.contains("at most 1000 times"), "{message}");
    let boundary = Boundary { timestep_scaling: 0.0, ..Boundary::default() };
    let message = refused(&Lcm { boundary: Some(boundary) });
    assert!(message.contains("timestep_scaling"), "{message}");
}
