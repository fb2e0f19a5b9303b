//! Input that the sampling loop refuses.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{Mixture, NoNoise, cosine, even, random};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{
    Ancestral, Ddim, Denoiser, Error, Noise, NoiseLevel, Restart, Result, Sampler, SamplerConfig,
    Schedule, SeededNoise, keep_going, sample,
};

#[test]
fn a_grid_that_does_not_fall_is_refused() {
    let schedule = cosine();
    let at = |t| schedule.at(t);
    let timed = |t, of| NoiseLevel { t, ..schedule.at(of) };
    let broken = NoiseLevel { t: 0.2, alpha: f64::NAN, sigma: 0.5 };
    let ddim = Ddim { eta: 0.0 };
    for (grid, part) in [
        (vec![], "at least two levels, got 0"),
        (vec![at(0.5)], "at least two levels, got 1"),
        (vec![at(0.9), at(0.5), at(0.5), at(0.1)], "at position 2"),
        (vec![at(0.1), at(0.9)], "at position 1"),
        (vec![at(0.9), broken], "at position 1"),
        // Times in table steps, outside any range of guidance.
        (vec![timed(900.0, 0.9), timed(100.0, 0.1)], "every t from 0 to 1"),
        (vec![at(0.9), timed(f64::NAN, 0.1)], "t: NaN"),
        (vec![at(0.9), timed(-1e-9, 0.1)], "at position 1"),
    ] {
        let x = random(3, &[2], Kind::Double);
        let end = sample(&ddim, &Mixture, &schedule, &grid, x, &mut NoNoise, &mut keep_going);
        let message = end.unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_state_that_is_not_of_real_numbers_is_refused() {
    let x = random(3, &[2, 2], Kind::Float).to_kind(Kind::Uint8);
    let ddim = Ddim { eta: 0.0 };
    let end = sample(&ddim, &Mixture, &cosine(), &even(2), x, &mut NoNoise, &mut keep_going);
    assert!(end.unwrap_err().to_string().contains("expected f32 or f64"));
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let x = random(3, &[2], Kind::Double);
    for (sampler, config, part) in [
        (
            &Ancestral { gamma: 1.5 } as &dyn Sampler,
            SamplerConfig::DdpmSmall { gamma: 1.5 },
            "sampler ancestral: gamma: expected a number from 0 to 1, got 1.5",
        ),
        (
            &Ddim { eta: f64::NAN },
            SamplerConfig::Ddim { eta: f64::NAN },
            "sampler ddim: eta: expected a number from 0 to 1, got NaN",
        ),
    ] {
        let x = x.shallow_clone();
        let end = sample(sampler, &Mixture, &cosine(), &even(2), x, &mut NoNoise, &mut keep_going);
        assert_eq!(end.unwrap_err().to_string(), part);
        assert_eq!(config.build().unwrap_err().to_string(), part);
    }
}

#[test]
fn an_answer_of_another_shape_is_refused() {
    #[derive(Debug)]
    struct Smaller;
    impl Denoiser for Smaller {
        fn denoise(&self, x: &Tensor, _: NoiseLevel) -> Result<Tensor> {
            Ok(x.narrow(0, 0, 1))
        }
    }
    let x = random(9, &[2, 3], Kind::Float);
    let ddim = Ddim { eta: 0.0 };
    let end = sample(&ddim, &Smaller, &cosine(), &even(2), x, &mut NoNoise, &mut keep_going);
    let message = end.unwrap_err().to_string();
    assert!(message.contains("[2, 3]") && message.contains("[1, 3]"), "{message}");
}

/// Leaves the state unchanged, except at the n-th call of `constrain`.
struct Constrains(std::cell::Cell<usize>, usize, fn(Tensor) -> Tensor);

impl Denoiser for Constrains {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        Mixture.denoise(x, at)
    }
    fn constrain(&self, x: Tensor, _: NoiseLevel, _: &mut dyn Noise) -> Result<Tensor> {
        let n = self.0.replace(self.0.get() + 1);
        Ok(if n == self.1 { self.2(x) } else { x })
    }
}

#[test]
fn a_constraint_that_answers_with_another_tensor_is_refused() {
    let half = |x: Tensor| x.narrow(0, 0, 2);
    let single = |x: Tensor| x.to_kind(Kind::Float);
    let restart = Restart { low: 0.0, high: f64::INFINITY, ..Restart::default() };
    // The first state, a step's, the jump's (after the sixth step) and the last one's.
    for n in [0, 2, 7, 12] {
        for (change, got) in [(half as fn(Tensor) -> Tensor, "got [2, 3]"), (single, "Float")] {
            let denoiser = Constrains(0.into(), n, change);
            let (x, noise) = (random(4, &[4, 3], Kind::Double), &mut SeededNoise::new(1, 0));
            let (schedule, grid) = (cosine(), even(6));
            let end = sample(&restart, &denoiser, &schedule, &grid, x, noise, &mut keep_going);
            let Err(error @ Error::Tensor { .. }) = end else { panic!("{n}: {end:?}") };
            let message = error.to_string();
            assert!(
                message.contains("constrain") && message.contains("[4, 3] Double"),
                "{message}"
            );
            assert!(message.contains(got), "{message}");
        }
    }
}

/// Returns tensors other than those requested.
struct Wrong(fn(&Tensor) -> Tensor);

impl Noise for Wrong {
    fn normal(&mut self, like: &Tensor) -> Tensor {
        self.0(like)
    }
    fn uniform(&mut self, like: &Tensor) -> Tensor {
        self.0(like)
    }
}

#[test]
fn noise_that_is_not_like_the_state_is_refused_whoever_draws_it() {
    // A shape that cannot be added, one that would broadcast, another kind.
    let wrong: [fn(&Tensor) -> Tensor; 3] = [
        |_| random(1, &[7], Kind::Double),
        |_| random(1, &[1, 3], Kind::Double),
        |like| like.to_kind(Kind::Float),
    ];
    for config in SamplerConfig::all().iter().filter(|config| !config.facts().deterministic) {
        for draw in wrong {
            let (x, noise) = (random(5, &[4, 3], Kind::Double), &mut Wrong(draw));
            let (sampler, schedule, grid) = (config.build().unwrap(), cosine(), even(20));
            let end = sample(&sampler, &Mixture, &schedule, &grid, x, noise, &mut keep_going);
            let Err(error @ Error::Tensor { .. }) = end else { panic!("{config:?}: {end:?}") };
            assert!(error.to_string().contains("draw of `Noise::"), "{error}");
        }
    }
}
