//! Conversions of a network's prediction.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{cosine, largest, random};
use proptest::prelude::*;
use vd_diffusion::Parameterization::{self, Edm, Epsilon, Flow, V, X0};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{
    Backbone, Cond, Denoiser, Diffusion, DiffusionConfig, FrameMask, Levels, NoiseLevel, Schedule,
    ScheduleConfig,
};

const EDM: Parameterization = Edm { sigma_data: 0.5 };
const ALL: [Parameterization; 5] = [Epsilon, X0, V, Flow, EDM];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any alpha and sigma: variance-preserving or not.
    #[test]
    fn the_target_gives_x0_and_eps_back(
        alpha in 0.01..2.0f64, sigma in 0.01..80.0f64, seed in any::<u64>()
    ) {
        let at = Levels::from(NoiseLevel { t: 0.5, alpha, sigma });
        let x0 = random(seed, &[2, 3, 4], Kind::Double);
        let eps = random(seed ^ 1, &[2, 3, 4], Kind::Double);
        let x = at.noised(&x0, &eps).unwrap();
        for kind in ALL {
            let out = kind.target(&x0, &eps, &at).unwrap();
            let x0_hat = kind.to_x0(&x, &out, &at).unwrap();
            let eps_hat = kind.to_eps(&x, &out, &at).unwrap();
            // Rounding of x and of the target, amplified by sigma / alpha and alpha / sigma.
            let bound = 1e-14 * (1.0 + sigma / alpha + alpha / sigma) * (1.0 + sigma);
            prop_assert!(largest(&(x0_hat - &x0)) < bound, "{kind:?}");
            prop_assert!(largest(&(eps_hat - &eps)) < bound, "{kind:?}");
        }
    }

    /// x_t, x0-hat and eps-hat of any output are collinear: both conversions agree.
    #[test]
    fn any_output_says_the_same_of_x0_and_of_eps(
        alpha in 0.01..2.0f64, sigma in 0.01..80.0f64, data in 0.1..2.0f64, seed in any::<u64>()
    ) {
        let at = Levels::from(NoiseLevel { t: 0.5, alpha, sigma });
        let x = random(seed, &[2, 3, 4], Kind::Double) * sigma.hypot(alpha);
        let out = random(seed ^ 1, &[2, 3, 4], Kind::Double);
        for kind in [Epsilon, X0, V, Flow, Edm { sigma_data: data }] {
            let x0 = kind.to_x0(&x, &out, &at).unwrap();
            let eps = kind.to_eps(&x, &out, &at).unwrap();
            let bound = 1e-13 * (1.0 + sigma / alpha + alpha / sigma) * (1.0 + sigma);
            prop_assert!(largest(&(at.noised(&x0, &eps).unwrap() - &x)) < bound, "{kind:?}");
            let again = kind.target(&x0, &eps, &at).unwrap();
            prop_assert!(largest(&(again - &out)) < bound * (1.0 + 1.0 / data), "{kind:?}");
            // Moving an output by 1 moves x0-hat as stated.
            let moved = kind.to_x0(&x, &(&out + 1.0), &at).unwrap() - x0;
            let slope = kind.x0_per_output(NoiseLevel { t: 0.5, alpha, sigma });
            prop_assert!(largest(&(moved - slope)) < bound, "{kind:?}");
        }
    }
}

/// At the ends one of x0 and eps is x itself; the target also determines the other, unless the
/// target itself follows from x.
#[test]
fn the_ends_of_a_schedule_are_levels_like_others() {
    let (x0, eps) = (random(8, &[3, 4], Kind::Double), random(9, &[3, 4], Kind::Double));
    let there_and_back = |kind: Parameterization, (alpha, sigma): (f64, f64)| {
        let at = Levels::from(NoiseLevel { t: 0.5, alpha, sigma });
        let x = at.noised(&x0, &eps).unwrap();
        let out = kind.target(&x0, &eps, &at).unwrap();
        (kind.to_x0(&x, &out, &at), kind.to_eps(&x, &out, &at))
    };
    for kind in [X0, V, Flow, EDM] {
        for sigma in [1.0, 80.0] {
            let (x0_hat, eps_hat) = there_and_back(kind, (0.0, sigma));
            assert!(largest(&(x0_hat.unwrap() - &x0)) < 1e-14 * sigma, "{kind:?}");
            assert!(largest(&(eps_hat.unwrap() - &eps)) < 1e-14, "{kind:?}");
        }
    }
    for kind in [Epsilon, V, Flow, EDM] {
        let (x0_hat, eps_hat) = there_and_back(kind, (1.0, 0.0));
        assert!(largest(&(x0_hat.unwrap() - &x0)) < 1e-14, "{kind:?}");
        assert!(largest(&(eps_hat.unwrap() - &eps)) < 1e-14, "{kind:?}");
    }
}

/// c_skip, c_out and c_in as printed in table 1 of Karras et al. 2022, at x / alpha and sigma /
/// alpha of random levels.
#[test]
fn edm_is_the_table_of_its_paper() {
    for (alpha, sigma) in [(1.0, 0.002), (1.0, 80.0), (0.8, 0.6), (0.3, 0.7), (0.01, 2.0)] {
        for data in [0.5f64, 1.0, 1.7] {
            let kind = Edm { sigma_data: data };
            let at = Levels::from(NoiseLevel { t: 0.5, alpha, sigma });
            let (x, out) = (random(1, &[9], Kind::Double), random(2, &[9], Kind::Double));
            let (y, s) = (&x / alpha, sigma / alpha);
            let total = s * s + data * data;
            let skip = data * data / total;
            let expected = &y * skip + &out * (s * data / total.sqrt());
            let got = kind.to_x0(&x, &out, &at).unwrap();
            assert!(largest(&(got - expected)) < 1e-13 / alpha);
            let shown = kind.shown(&x, &at).unwrap();
            assert!(largest(&(shown - &y / total.sqrt())) < 1e-13 / alpha);
        }
    }
    let at = Levels::from(NoiseLevel { t: 0.5, alpha: 0.3, sigma: 0.7 });
    let x = random(3, &[9], Kind::Float);
    for kind in [Epsilon, X0, V, Flow] {
        assert_eq!(kind.shown(&x, &at).unwrap(), x);
    }
}

/// Data and noise with these standard deviations give network input and target a standard deviation
/// of 1.
#[test]
fn edm_shows_and_asks_for_unit_variance() {
    let n = 100_000;
    let (data, eps) = (random(4, &[n], Kind::Double) * 0.5, random(5, &[n], Kind::Double));
    for (alpha, sigma) in [(1.0, 0.01), (1.0, 5.0), (0.8, 0.6), (0.0, 1.0)] {
        let at = Levels::from(NoiseLevel { t: 0.5, alpha, sigma });
        let shown = EDM.shown(&at.noised(&data, &eps).unwrap(), &at).unwrap();
        let target = EDM.target(&data, &eps, &at).unwrap();
        for x in [shown, target] {
            let variance = x.var(true).double_value(&[]);
            // Four standard errors of the variance of n normal values.
            assert!((variance - 1.0).abs() < 4.0 * (2.0 / n as f64).sqrt(), "{variance}");
        }
    }
}

#[test]
fn targets_are_those_of_their_papers() {
    let (alpha, sigma) = (0.8, 0.6);
    let at = Levels::from(NoiseLevel { t: 0.5, alpha, sigma });
    let (x0, eps) = (random(1, &[5], Kind::Double), random(2, &[5], Kind::Double));
    let check = |kind: Parameterization, expected: Tensor| {
        assert!(largest(&(kind.target(&x0, &eps, &at).unwrap() - expected)) < 1e-15, "{kind:?}");
    };
    check(Epsilon, eps.shallow_clone());
    check(X0, x0.shallow_clone());
    check(V, &eps * alpha - &x0 * sigma);
    check(Flow, &eps - &x0);
}

#[test]
fn levels_per_sample_and_per_frame_act_row_by_row() {
    let schedule = cosine();
    let (b, f) = (2, 3);
    let x0 = random(3, &[b, 4, f, 2, 2], Kind::Double);
    let eps = random(4, &[b, 4, f, 2, 2], Kind::Double);
    let t = Tensor::from_slice(&[0.1, 0.9, 0.5, 0.3, 0.7, 1.0]).view([b, f]);
    let levels = Levels::at_times(&schedule, &t).unwrap();
    let x = levels.noised(&x0, &eps).unwrap();
    for kind in ALL {
        let target = kind.target(&x0, &eps, &levels).unwrap();
        for i in 0..b {
            for j in 0..f {
                let at = Levels::from(schedule.at(t.double_value(&[i, j])));
                let frame = |x: &Tensor| x.get(i).select(1, j);
                let expected = kind.target(&frame(&x0), &frame(&eps), &at).unwrap();
                assert!(largest(&(frame(&target) - expected)) < 1e-15);
                let expected = at.noised(&frame(&x0), &frame(&eps)).unwrap();
                assert!(largest(&(frame(&x) - expected)) < 1e-15);
            }
        }
    }
    let per_sample = Levels::per_sample(vec![schedule.at(0.2), schedule.at(0.6)]);
    let x = per_sample.noised(&x0, &eps).unwrap();
    let second = Levels::from(schedule.at(0.6)).noised(&x0.get(1), &eps.get(1)).unwrap();
    assert!(largest(&(x.get(1) - second)) < 1e-15);
}

#[test]
fn levels_that_do_not_fit_are_refused() {
    let schedule = cosine();
    let x = random(5, &[2, 3, 4], Kind::Float);
    let levels = |t: &Tensor| Levels::at_times(&schedule, t);
    let three = levels(&Tensor::from_slice(&[0.1, 0.2, 0.3])).unwrap();
    assert!(three.noised(&x, &x).unwrap_err().to_string().contains("[3, ..]"));
    let frames = levels(&Tensor::from_slice(&[0.1, 0.2, 0.3, 0.4]).view([2, 2])).unwrap();
    assert!(frames.noised(&x, &x).unwrap_err().to_string().contains("[2, c, 2, ..]"));
    for (t, part) in [(1.5, "from 0 to 1"), (-0.1, "got -0.1"), (f64::NAN, "got NaN")] {
        let message = levels(&Tensor::from_slice(&[0.5, t])).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    let scalar = levels(&Tensor::from(0.5)).unwrap_err().to_string();
    assert!(scalar.contains("b or b f"), "{scalar}");
    let one = Levels::from(schedule.at(0.5));
    let message = V.to_x0(&x, &x.narrow(1, 0, 1), &one).unwrap_err().to_string();
    assert!(message.contains("[2, 3, 4]") && message.contains("[2, 1, 4]"), "{message}");
    let clean = Levels::at_times(&known::Flow, &Tensor::from_slice(&[0.0])).unwrap_err();
    assert!(clean.to_string().contains("noise to remove"), "{clean}");
    // One frame of several may be clean, and is exactly so.
    let frames = levels(&Tensor::from_slice(&[0.0, 0.4]).view([1, 2])).unwrap();
    assert_eq!(frames.values()[0], NoiseLevel { t: 0.0, alpha: 1.0, sigma: 0.0 });
    assert_eq!(frames.values()[1], schedule.at(0.4));
}

#[test]
fn only_epsilon_refuses_pure_noise() {
    let noise = Levels::from(NoiseLevel { t: 1.0, alpha: 0.0, sigma: 1.0 });
    let (x, out) = (random(6, &[2, 3], Kind::Float), random(7, &[2, 3], Kind::Float));
    for kind in ALL {
        let x0 = kind.to_x0(&x, &out, &noise);
        if kind == Epsilon {
            let message = x0.unwrap_err().to_string();
            assert!(message.contains("alpha > 0") && message.contains("predict v"), "{message}");
            assert!(kind.target(&x, &out, &noise).is_err());
        } else {
            assert!(x0.unwrap().isfinite().all().int64_value(&[]) == 1);
        }
    }
    let clean = Levels::from(NoiseLevel { t: 0.0, alpha: 1.0, sigma: 0.0 });
    assert!(X0.to_eps(&x, &out, &clean).is_err());
}

/// The network sees the scaled tensor; its output is converted with the unscaled one.
#[test]
fn denoisers_show_what_training_shows() {
    let toy = known::Toy::default();
    let x = random(10, &[2, 3, 4], Kind::Double);
    for kind in ALL {
        let schedule = ScheduleConfig::cosine();
        let config = DiffusionConfig { schedule, parameterization: kind, ..Default::default() };
        let diffusion = Diffusion::new(&config).unwrap();
        let at = diffusion.schedule().at(0.3);
        let levels = Levels::from(at);
        let t = Tensor::from_slice(&[300.0, 300.0]);
        let shown = kind.shown(&x, &levels).unwrap();
        let out = toy.forward(&shown, &t, &Cond::none(), &FrameMask::All, None).unwrap();
        let expected = kind.to_x0(&x, &out, &levels).unwrap();
        let denoiser = diffusion.denoiser(&toy, Cond::none(), FrameMask::All);
        assert!(largest(&(denoiser.denoise(&x, at).unwrap() - expected)) < 1e-13, "{kind:?}");
    }
}
