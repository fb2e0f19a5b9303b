//! Shapes, sizes and numbers that guidance refuses, and unusual ones that it accepts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{Gaussian, Mixture, cosine, doubles, largest, random};
use vd_diffusion::tch::{Device, Kind, Tensor};
use vd_diffusion::{
    Autoguided, Denoiser, Downscale, Error, GuidanceConfig, Guided, Integrator, Known, Levels,
    Likelihood, NoiseLevel, NoiseRange, Parameterization, Reconstruction, ReconstructionConfig,
    Result, Schedule, SeededNoise, Threshold, invert, keep_going, log_likelihood,
};

/// Returns one number per sample.
#[derive(Debug)]
struct Means;

impl Denoiser for Means {
    fn denoise(&self, x: &Tensor, _: NoiseLevel) -> Result<Tensor> {
        Ok(x.mean_dim(1, true, Kind::Double))
    }
}

#[test]
fn a_guide_whose_answer_would_broadcast_is_refused() {
    let (x, at) = (random(1, &[2, 3], Kind::Double), cosine().at(0.5));
    let refused = |denoiser: &dyn Denoiser| {
        let levels = Levels::per_sample(vec![at; 2]);
        [denoiser.denoise(&x, at), denoiser.denoise_levels(&x, &levels)]
            .map(|answer| answer.unwrap_err().to_string())
    };
    let all = NoiseRange::default();
    for message in refused(&Autoguided::new(Mixture, Means, 2.0, all).unwrap()) {
        assert!(message.contains("guide") && message.contains("got [2, 1]"), "{message}");
    }
    for message in refused(&Autoguided::new(Means, Mixture, 2.0, all).unwrap()) {
        assert!(message.contains("main") && message.contains("got [2, 1]"), "{message}");
    }
}

#[test]
fn samples_of_one_number_are_guided_each_by_itself() {
    let (x, at) = (random(2, &[4], Kind::Double), cosine().at(0.6));
    let other = Gaussian { mean: doubles(&[0.4]), std: 0.3 };
    let (signals, within) = (Default::default(), NoiseRange::default());
    for rule in [
        GuidanceConfig::ClassifierFree { rescale: 0.7, signals, within },
        GuidanceConfig::CfgZeroStar { zero_init: 0, within },
        GuidanceConfig::Apg { eta: 0.3, norm_threshold: 0.05, momentum: 0.0, within },
    ] {
        let space = Parameterization::V;
        let guided = Guided::around(Mixture, &other, 3.0, &rule, space).unwrap();
        let together = guided.denoise(&x, at).unwrap();
        // The same numbers as samples of an uncontroversial rank.
        let column = guided.denoise(&x.view([4, 1]), at).unwrap();
        assert!(largest(&(column.view([4]) - &together)) < 1e-14, "{rule:?}");
        for k in 0..4 {
            let alone = guided.denoise(&x.narrow(0, k, 1), at).unwrap();
            assert!(largest(&(alone - together.narrow(0, k, 1))) < 1e-14, "{rule:?}, {k}");
        }
    }
}

#[test]
fn clips_and_batches_of_no_numbers_are_refused() {
    let of = |shape: &[i64]| Tensor::zeros(shape, (Kind::Double, Device::Cpu));
    for shape in [[2, 3, 0, 4, 4], [0, 3, 2, 4, 4], [2, 3, 2, 4, 0]] {
        for known in [Known::every(of(&shape), 2), Known::smaller(of(&shape), Downscale::None)] {
            let config = ReconstructionConfig::default();
            let refused = Reconstruction::new(Mixture, vec![known], &shape, config).unwrap_err();
            assert!(refused.to_string().contains("at least one number"), "{refused}");
        }
    }
    for shape in [[0, 3], [2, 0], [0, 0]] {
        let refused = Threshold::dynamic().apply(of(&shape)).unwrap_err().to_string();
        assert!(refused.contains("at least one sample, of at least one number"), "{refused}");
    }
}

/// Returns non-finite values above a level.
#[derive(Debug)]
struct BrokenAbove(f64);

impl Denoiser for BrokenAbove {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        let factor = if at.t > self.0 { f64::NAN } else { 1.0 };
        Ok(Mixture.denoise(x, at)? * factor)
    }
}

#[test]
fn inversions_and_likelihoods_say_where_a_state_is_not_finite_first() {
    let grid: Vec<NoiseLevel> = [0.9, 0.7, 0.5, 0.3, 0.1].map(|t| cosine().at(t)).to_vec();
    let x = random(3, &[3, 2], Kind::Double);
    let broken = &x * f64::NAN;
    let settings = Likelihood { integrator: Integrator::Rk4, ..Likelihood::default() };
    // A step from .3 to .5 evaluates at .3 in an inversion, and up to .5 in a likelihood.
    for (x, above, inverted, likely) in
        [(&x, 0.4, (3, 0.7), (2, 0.5)), (&broken, 2.0, (0, 0.1), (0, 0.1))]
    {
        let denoiser = BrokenAbove(above);
        let run = invert(&denoiser, &cosine(), &grid, x.shallow_clone(), &mut keep_going);
        assert_eq!(first_broken(run.unwrap_err()), inverted);
        let mut noise = SeededNoise::new(4, 0);
        let run = log_likelihood(&settings, &denoiser, &cosine(), &grid, x, &mut noise);
        assert_eq!(first_broken(run.unwrap_err()), likely);
    }
}

fn first_broken(error: Error) -> (usize, f64) {
    match error {
        Error::NotFinite { steps, of: 4, at } => (steps, at.t),
        other => panic!("{other}"),
    }
}

#[test]
fn what_libtorch_refuses_is_said_without_its_stack() {
    let error = Error::from(random(4, &[2], Kind::Double).f_view([3]).unwrap_err()).to_string();
    assert!(error.contains("invalid for input of size 2") && !error.contains("frame #"), "{error}");
}
