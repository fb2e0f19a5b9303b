//! Stochastic samplers on one Brownian path.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{Mixture, cosine, even, random, run};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{
    Ancestral, BrownianNoise, DpmPp2m, DpmPp2s, DpmPp3m, Noise, Restart, Sampler, SeededNoise,
};

/// Root mean square distance between the results of n and 2 n steps on the same noise.
fn distance(sampler: &dyn Sampler, n: usize, noise: &dyn Fn() -> Box<dyn Noise>) -> f64 {
    let x = random(1, &[2, 200], Kind::Double);
    let end = |n: usize| run(sampler, &Mixture, &cosine(), &even(n), &x, &mut *noise());
    let apart: Tensor = end(n) - end(2 * n);
    apart.square().mean(Kind::Double).double_value(&[]).sqrt()
}

#[test]
fn twice_the_steps_refine_the_same_path() {
    let brownian = || Box::new(BrownianNoise::new(5, 0)) as Box<dyn Noise>;
    let fresh = || Box::new(SeededNoise::new(5, 0)) as Box<dyn Noise>;
    let samplers: [&dyn Sampler; 4] =
        [&Ancestral { gamma: 0.0 }, &DpmPp2s { eta: 1.0 }, &DpmPp2m::new(1.0), &DpmPp3m::new(1.0)];
    for sampler in samplers {
        let apart = [25, 50, 100].map(|n| distance(sampler, n, &brownian));
        // Measured: orders from .8 upwards; half an order is required.
        let fall = 0.5f64.sqrt();
        assert!(apart.windows(2).all(|d| d[1] < d[0] * fall), "{sampler:?}: {apart:?}");
        // With fresh noise, results differ at any number of steps.
        let independent = distance(sampler, 100, &fresh);
        assert!(independent > 0.5, "{sampler:?}: {independent}");
    }
}

#[test]
fn a_clip_on_its_path_does_not_depend_on_its_batch() {
    let x = random(2, &[4, 3], Kind::Double);
    let sampler = Ancestral { gamma: 0.0 };
    let end = |x: &Tensor, first: u64| {
        run(&sampler, &Mixture, &cosine(), &even(20), x, &mut BrownianNoise::new(5, first))
    };
    let apart = end(&x, 0).narrow(0, 1, 2) - end(&x.narrow(0, 1, 2), 1);
    assert!(apart.abs().max().double_value(&[]) < 1e-13);
}

#[test]
fn a_second_run_on_the_same_object_has_a_path_of_its_own() {
    let x = random(3, &[1, 400], Kind::Double);
    let mut noise = BrownianNoise::new(5, 0);
    let mut end = || run(&Ancestral { gamma: 0.0 }, &Mixture, &cosine(), &even(25), &x, &mut noise);
    let apart: Tensor = end() - end();
    // As far apart as with fresh noise.
    assert!(apart.square().mean(Kind::Double).double_value(&[]).sqrt() > 0.5);
}

#[test]
fn a_restart_leaves_the_path_that_it_has_used() {
    let (n, steps) = (20_000, 32);
    let x = random(4, &[1, n], Kind::Double);
    let restart = || Restart { inner: Box::new(DpmPp2m::new(1.0)), low: 0.05, high: 2.0, times: 2 };
    let variance = |noise: &mut dyn Noise| {
        let end = run(&restart(), &Mixture, &cosine(), &even(steps), &x, noise);
        end.var(true).double_value(&[])
    };
    let fresh = variance(&mut SeededNoise::new(6, 0));
    let path = variance(&mut BrownianNoise::new(6, 0));
    // Four standard errors of the difference of two variances, for data whose fourth moment is at
    // most a Gaussian's; with reused increments the difference is more than twice that.
    assert!((path / fresh - 1.0).abs() < 4.0 * 2.0 / (n as f64).sqrt(), "{path} for {fresh}");
}
