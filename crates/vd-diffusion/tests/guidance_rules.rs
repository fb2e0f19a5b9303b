//! Guidance rules compared with their formulas, over plain numbers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod guided;
mod known;

use guided::{SIZE, apart, apg, cond, signal};
use known::{Flow, Toy, largest, random, values};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{
    Backbone, Cond, Denoiser, Diffusion, FrameMask, GuidanceConfig, LossKind, Noise, NoiseRange,
    Parameterization, Progress, TimeSampling, unet3d,
};

fn diffusion(parameterization: Parameterization) -> Diffusion {
    let (loss, times) = (LossKind::L2, TimeSampling::Uniform);
    Diffusion::with_schedule(Box::new(known::cosine()), parameterization, loss, times).unwrap()
}

/// The rows of a batch as plain numbers.
fn rows(x: &Tensor) -> Vec<Vec<f64>> {
    (0..x.size()[0]).map(|k| values(&x.get(k))).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn furthest(got: &Tensor, expected: &[Vec<f64>]) -> f64 {
    let apart = rows(got).into_iter().zip(expected).flat_map(|(got, expected)| {
        got.into_iter().zip(expected).map(|(a, b)| (a - b).abs()).collect::<Vec<_>>()
    });
    apart.fold(0.0, f64::max)
}

/// A function of the rows of two batches.
fn by_row(a: &Tensor, b: &Tensor, f: impl Fn(&[f64], &[f64]) -> Vec<f64>) -> Vec<Vec<f64>> {
    rows(a).iter().zip(&rows(b)).map(|(a, b)| f(a, b)).collect()
}

#[test]
fn every_rule_at_scale_one_is_the_network_itself_asked_once() {
    let diffusion = diffusion(Parameterization::V);
    let (x, at) = (random(1, &SIZE, Kind::Double), diffusion.schedule().at(0.6));
    let mut rules = GuidanceConfig::all();
    rules.push(apg(0.3, 1.0, -0.5));
    rules.push(GuidanceConfig::CfgZeroStar { zero_init: 2, within: NoiseRange::default() });
    for rule in rules {
        let toy = Toy::conditional();
        let guided =
            diffusion.guided_by(&toy, vec![signal(2, 1.0)], FrameMask::All, &rule).unwrap();
        let (given, _) = apart(&diffusion, &cond(2), &x, at);
        assert_eq!(guided.denoise(&x, at).unwrap(), given, "{rule:?}");
        assert_eq!(toy.batches(), [3]);
    }
}

#[test]
fn rescaling_brings_the_spread_of_the_answer_back() {
    let rule = |rescale| {
        let (signals, within) = Default::default();
        GuidanceConfig::ClassifierFree { rescale, signals, within }
    };
    for parameterization in [Parameterization::Epsilon, Parameterization::V, Parameterization::Flow]
    {
        let diffusion = diffusion(parameterization);
        let (x, at) = (random(3, &SIZE, Kind::Double), diffusion.schedule().at(0.45));
        let said = |cond: Cond| {
            let t = Tensor::full([3], 450.0, (Kind::Double, x.device()));
            Toy::conditional().forward(&x, &t, &cond, &FrameMask::All, None).unwrap()
        };
        let (given, null) = (said(cond(4)), said(cond(4).nulled()));
        let expected = by_row(&given, &null, |given, null| {
            let plain: Vec<_> =
                given.iter().zip(null).map(|(given, null)| null + 5.0 * (given - null)).collect();
            let std = |x: &[f64]| {
                let mean = x.iter().sum::<f64>() / x.len() as f64;
                (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64).sqrt()
            };
            let ratio = std(given) / std(&plain);
            plain.iter().map(|plain| 0.7 * plain * ratio + 0.3 * plain).collect()
        });
        let toy = Toy::conditional();
        let signals = || vec![signal(4, 5.0)];
        let guided = diffusion.guided_by(&toy, signals(), FrameMask::All, &rule(0.7)).unwrap();
        // Converts x0-hat back to the network's output.
        let x0 = guided.denoise(&x, at).unwrap();
        let eps = at.eps(&x, &x0);
        let got = parameterization.target(&x0, &eps, &at.into()).unwrap();
        assert!(furthest(&got, &expected) < 1e-11, "{parameterization:?}");
        let plain = diffusion.guided(&toy, cond(4), FrameMask::All, 5.0).unwrap();
        let none = diffusion.guided_by(&toy, signals(), FrameMask::All, &rule(0.0)).unwrap();
        assert_eq!(none.denoise(&x, at).unwrap(), plain.denoise(&x, at).unwrap());
    }
}

#[test]
fn cfg_zero_star_is_its_formula_on_the_velocity() {
    let rule = GuidanceConfig::CfgZeroStar { zero_init: 0, within: NoiseRange::default() };
    for parameterization in [Parameterization::V, Parameterization::Flow] {
        let diffusion = diffusion(parameterization);
        let (x, at) = (random(5, &SIZE, Kind::Double), diffusion.schedule().at(0.7));
        let (given, null) = apart(&diffusion, &cond(6), &x, at);
        let speed = |x0: &Tensor| at.eps(&x, x0) - x0;
        let expected = by_row(&speed(&given), &speed(&null), |given, null| {
            let share = dot(given, null) / dot(null, null);
            given.iter().zip(null).map(|(v, u)| share * u + 3.0 * (v - share * u)).collect()
        });
        let toy = Toy::conditional();
        let guided =
            diffusion.guided_by(&toy, vec![signal(6, 3.0)], FrameMask::All, &rule).unwrap();
        let got = speed(&guided.denoise(&x, at).unwrap());
        assert!(furthest(&got, &expected) < 1e-11, "{parameterization:?}");
        assert_eq!(toy.batches(), [6]);
    }
}

/// Returns one output with conditioning, another without.
#[derive(Debug)]
struct Says {
    given: Tensor,
    null: Tensor,
}

impl Backbone for Says {
    fn forward(
        &self,
        x: &Tensor,
        _: &Tensor,
        cond: &Cond,
        _: &FrameMask,
        _: Option<&mut dyn Noise>,
    ) -> unet3d::Result<Tensor> {
        let mut shape = vec![1; x.dim()];
        shape[0] = x.size()[0];
        let null = cond.null.as_ref().unwrap().view(shape.as_slice());
        let times = x.size()[0] / self.null.size()[0];
        let repeat = |x: &Tensor| Tensor::cat(&vec![x; times as usize], 0);
        Ok(repeat(&self.null).where_self(&null, &repeat(&self.given)))
    }

    fn is_conditional(&self) -> bool {
        true
    }
}

#[test]
fn cfg_zero_star_is_classifier_free_where_the_difference_is_perpendicular_to_null() {
    let (loss, times) = (LossKind::L2, TimeSampling::Uniform);
    let parameterization = Parameterization::Flow;
    let diffusion =
        Diffusion::with_schedule(Box::new(Flow), parameterization, loss, times).unwrap();
    let null = random(7, &[3, 4], Kind::Double);
    // (a, b, c, d) and (-b, a, -d, c)
    let sign = Tensor::from_slice(&[-1.0, 1.0, -1.0, 1.0]);
    let aside = null.index_select(1, &Tensor::from_slice(&[1i64, 0, 3, 2])) * sign;
    let network = Says { given: &null + aside * 0.8, null };
    let (x, at) = (random(8, &[3, 4], Kind::Double), diffusion.schedule().at(0.5));
    let rule = GuidanceConfig::CfgZeroStar { zero_init: 0, within: NoiseRange::default() };
    let star = diffusion.guided_by(&network, vec![signal(9, 4.0)], FrameMask::All, &rule).unwrap();
    let plain = diffusion.guided(&network, cond(9), FrameMask::All, 4.0).unwrap();
    let off = star.denoise(&x, at).unwrap() - plain.denoise(&x, at).unwrap();
    assert!(largest(&off) < 1e-13);
}

#[test]
fn zero_init_holds_still_in_the_first_steps_of_every_run() {
    let diffusion = diffusion(Parameterization::V);
    let toy = Toy::conditional();
    let rule = GuidanceConfig::CfgZeroStar { zero_init: 2, within: NoiseRange::default() };
    let guided = diffusion.guided_by(&toy, vec![signal(6, 3.0)], FrameMask::All, &rule).unwrap();
    let x = random(10, &SIZE, Kind::Double);
    for _ in 0..2 {
        let mut asked = Vec::new();
        guided.follow(Progress::Sampling { steps: 4 });
        for t in [0.9, 0.8, 0.7, 0.6] {
            let at = diffusion.schedule().at(t);
            let before = toy.batches().len();
            // A second evaluation, as in a corrector, belongs to the same step.
            let x0 = (guided.denoise(&x, at).unwrap(), guided.denoise(&x, at).unwrap()).1;
            asked.push(toy.batches().len() - before);
            guided.follow(Progress::Step);
            if asked.len() < 3 {
                assert!(largest(&(at.eps(&x, &x0) - x0)) < 1e-13);
            }
        }
        assert_eq!(asked, [0, 0, 2, 2]);
        // A restart raises the noise again, but not to the beginning of the run.
        let again = diffusion.schedule().at(0.75);
        guided.follow(Progress::Raised);
        let _ = guided.denoise(&x, again).unwrap();
        assert_eq!(toy.batches().len() % 5, 0);
    }
}

#[test]
fn projected_guidance_is_its_formula_with_momentum_from_level_to_level() {
    let (eta, most, momentum, scale) = (0.25, 0.9, -0.6, 4.0);
    let diffusion = diffusion(Parameterization::V);
    let toy = Toy::conditional();
    let rule = apg(eta, most, momentum);
    let guided = diffusion.guided_by(&toy, vec![signal(11, scale)], FrameMask::All, &rule).unwrap();
    for _ in 0..2 {
        let mut sum = vec![vec![0.0; 16]; 3];
        for (seed, t) in [(12, 0.9), (13, 0.5), (14, 0.3)] {
            let (x, at) = (random(seed, &SIZE, Kind::Double), diffusion.schedule().at(t));
            let (given, null) = apart(&diffusion, &cond(11), &x, at);
            let d = by_row(&given, &null, |c, u| c.iter().zip(u).map(|(c, u)| c - u).collect());
            for (sum, d) in sum.iter_mut().zip(&d) {
                for (sum, d) in sum.iter_mut().zip(d) {
                    *sum = d + momentum * *sum;
                }
            }
            let expected: Vec<Vec<f64>> = rows(&given)
                .iter()
                .zip(&sum)
                .map(|(given, sum)| {
                    let shorter = (most / dot(sum, sum).sqrt()).min(1.0);
                    let along = shorter * dot(sum, given) / dot(given, given);
                    let kept = |c: f64, d: f64| shorter * d - (1.0 - eta) * along * c;
                    let pairs = given.iter().zip(sum);
                    pairs.map(|(c, d)| c + (scale - 1.0) * kept(*c, *d)).collect()
                })
                .collect();
            let got = guided.denoise(&x, at).unwrap();
            assert!(furthest(&got, &expected) < 1e-12, "at {t}");
            // The same level gives the same output; a new run resets the sum.
            assert_eq!(guided.denoise(&x, at).unwrap(), got);
        }
    }
}

#[test]
fn projected_guidance_that_keeps_everything_is_classifier_free() {
    let diffusion = diffusion(Parameterization::V);
    let toy = Toy::conditional();
    let (x, at) = (random(15, &SIZE, Kind::Double), diffusion.schedule().at(0.4));
    let signals = vec![signal(11, 4.0)];
    let all = diffusion.guided_by(&toy, signals, FrameMask::All, &apg(1.0, 0.0, 0.0)).unwrap();
    let plain = diffusion.guided(&toy, cond(11), FrameMask::All, 4.0).unwrap();
    assert!(largest(&(all.denoise(&x, at).unwrap() - plain.denoise(&x, at).unwrap())) < 1e-13);
}
