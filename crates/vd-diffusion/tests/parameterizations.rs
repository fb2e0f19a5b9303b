//! What a network predicts, there and back.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{cosine, largest, random};
use proptest::prelude::*;
use vd_diffusion::Parameterization::{self, Epsilon, Flow, V, X0};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{Levels, NoiseLevel, Schedule};

const ALL: [Parameterization; 4] = [Epsilon, X0, V, Flow];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any alpha and sigma: variance preserving or not.
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
            // Rounding of x and of the target, magnified by sigma / alpha and alpha / sigma.
            let bound = 1e-14 * (1.0 + sigma / alpha + alpha / sigma) * (1.0 + sigma);
            prop_assert!(largest(&(x0_hat - &x0)) < bound, "{kind:?}");
            prop_assert!(largest(&(eps_hat - &eps)) < bound, "{kind:?}");
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
