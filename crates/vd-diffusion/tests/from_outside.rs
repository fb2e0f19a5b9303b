//! What is possible for a crate that depends only on this one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{Gaussian, cosine, largest, random};
use vd_diffusion::tch::{Device, Kind};
use vd_diffusion::{
    Denoiser, DpmPp2m, History, Interval, Levels, Params, Past, Sampler, Schedule, SeededNoise,
    Uncertainty,
};

#[test]
fn an_uncertainty_is_declared_beside_a_network() {
    let mut params = Params::new(0, Kind::Double, Device::Cpu);
    let uncertainty = Uncertainty::new(&mut params.root(), 8).unwrap();
    let levels = Levels::per_sample(vec![cosine().at(0.2), cosine().at(0.7)]);
    assert_eq!(largest(&uncertainty.of(&levels).unwrap()), 0.0);
}

/// A single step of a multistep rule, with a hand-made history.
#[test]
fn a_step_is_tried_with_any_past() {
    let (schedule, denoiser) =
        (cosine(), Gaussian { mean: random(4, &[4], Kind::Double), std: 0.7 });
    let mut past = History::default();
    let states =
        [0.9, 0.8, 0.7, 0.6, 0.55].map(|t| (schedule.at(t), random(1, &[4], Kind::Double)));
    for (at, x) in states {
        let x0 = denoiser.denoise(&x, at).unwrap();
        past.push(Past { at, x, x0 });
    }
    let times: Vec<f64> = past.newest(9).map(|past| past.at.t).collect();
    assert_eq!(times, [0.55, 0.6, 0.7, 0.8]);
    let step = |past: &History| {
        let (from, to) = (schedule.at(0.5), schedule.at(0.4));
        let (denoiser, schedule) = (&denoiser as &dyn Denoiser, &schedule as &dyn Schedule);
        let over = Interval { from, to, index: 5, of: 10, denoiser, schedule, past };
        let x = random(2, &[4], Kind::Double);
        DpmPp2m::new(0.0).step(&x, &over, &mut SeededNoise::new(3, 0)).unwrap().x
    };
    let (with, without) = (step(&past), step(&History::default()));
    assert!(largest(&(with - without)) > 1e-6);
}
