//! What the loop refuses.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{Mixture, NoNoise, cosine, even, random};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{
    Ancestral, Ddim, Denoiser, NoiseLevel, Result, Sampler, SamplerConfig, Schedule, keep_going,
    sample,
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
        (vec![at(0.9), at(0.5), at(0.5), at(0.1)], "at place 2"),
        (vec![at(0.1), at(0.9)], "at place 1"),
        (vec![at(0.9), broken], "at place 1"),
        // Times in steps of a table, which no range of guidance would ever hold.
        (vec![timed(900.0, 0.9), timed(100.0, 0.1)], "every t from 0 to 1"),
        (vec![at(0.9), timed(f64::NAN, 0.1)], "t: NaN"),
        (vec![at(0.9), timed(-1e-9, 0.1)], "at place 1"),
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
