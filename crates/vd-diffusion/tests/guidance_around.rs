//! Guidance of denoisers that are not a single network.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{Mixture, Toy, largest, random};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{
    Autoguided, Cond, Denoiser, Diffusion, FrameMask, GuidanceConfig, Guided, Levels, LossKind,
    ModelDenoiser, NoiseRange, Parameterization, Progress, Signal, Threshold, Thresholded,
    TimeSampling,
};

const SIZE: [i64; 4] = [3, 2, 4, 2];

fn diffusion(parameterization: Parameterization) -> Diffusion {
    let (loss, times) = (LossKind::L2, TimeSampling::Uniform);
    Diffusion::with_schedule(Box::new(known::cosine()), parameterization, loss, times).unwrap()
}

fn cond() -> Cond {
    Cond::pooled(random(2, &[3, 5], Kind::Double))
}

/// Every rule, with all its options.
fn rules() -> Vec<GuidanceConfig> {
    let (signals, within) = (Default::default(), NoiseRange::default());
    let mut rules = GuidanceConfig::all();
    rules.push(GuidanceConfig::ClassifierFree { rescale: 0.7, signals, within });
    rules.push(GuidanceConfig::Apg { eta: 0.3, norm_threshold: 1.0, momentum: -0.5, within });
    rules.push(GuidanceConfig::CfgZeroStar { zero_init: 1, within });
    rules.push(rules[3].limited(NoiseRange::T([0.0, 0.5])));
    rules
}

fn branches<'a>(diffusion: &'a Diffusion, toy: &'a Toy) -> [ModelDenoiser<'a>; 2] {
    [cond(), cond().nulled()].map(|cond| diffusion.denoiser(toy, cond, FrameMask::All))
}

#[test]
fn two_denoisers_of_one_network_are_guided_as_the_network_is() {
    let edm = Parameterization::Edm { sigma_data: 0.5 };
    for space in [
        Parameterization::Epsilon,
        Parameterization::X0,
        Parameterization::V,
        Parameterization::Flow,
        edm,
    ] {
        let (diffusion, toy) = (diffusion(space), Toy::conditional());
        for (rule, scale) in rules().into_iter().flat_map(|rule| [(rule, 3.0), (rule, 1.0)]) {
            let [given, null] = branches(&diffusion, &toy);
            let around = Guided::around(given, null, scale, &rule, space).unwrap();
            let signals = vec![Signal { cond: cond(), scale }];
            let one = diffusion.guided_by(&toy, signals, FrameMask::All, &rule).unwrap();
            for denoiser in [&around, &one] {
                denoiser.follow(Progress::Sampling { steps: 3 });
            }
            for (seed, t) in [(3, 0.9), (4, 0.6), (5, 0.3)] {
                let (x, at) = (random(seed, &SIZE, Kind::Double), diffusion.schedule().at(t));
                let off = around.denoise(&x, at).unwrap() - one.denoise(&x, at).unwrap();
                assert!(largest(&off) < 1e-12, "{space:?}, {rule:?}, {scale}, {t}");
                let levels = [t, 0.5, 0.7].map(|t| diffusion.schedule().at(t)).to_vec();
                let levels = Levels::per_sample(levels);
                let [a, b] = [&around, &one].map(|d| d.denoise_levels(&x, &levels).unwrap());
                assert!(largest(&(a - b)) < 1e-12, "{space:?}, {rule:?}, {scale}, {t}, levels");
                for denoiser in [&around, &one] {
                    denoiser.follow(Progress::Step);
                }
            }
        }
    }
}

#[test]
fn branches_may_be_thresholded_or_guided_by_themselves() {
    let (diffusion, toy) = (diffusion(Parameterization::V), Toy::conditional());
    let (x, at) = (random(6, &SIZE, Kind::Double), diffusion.schedule().at(0.5));
    let away = |main| Autoguided::new(main, Mixture, 1.5, NoiseRange::default()).unwrap();
    let [given, null] = branches(&diffusion, &toy);
    let given = Thresholded::new(away(given), Threshold::Static).unwrap();
    let null = Thresholded::new(null, Threshold::Static).unwrap();
    let [a, b] = [given.denoise(&x, at).unwrap(), null.denoise(&x, at).unwrap()];
    let rule = GuidanceConfig::default();
    let guided = Guided::around(&given, &null, 2.5, &rule, Parameterization::V).unwrap();
    let expected = &b + (&a - &b) * 2.5;
    assert!(largest(&(guided.denoise(&x, at).unwrap() - expected)) < 1e-13);
}

#[test]
fn what_guidance_around_denoisers_cannot_use_is_refused() {
    let rule = GuidanceConfig::default();
    let (v, edm) = (Parameterization::V, Parameterization::Edm { sigma_data: 0.0 });
    let refused = |scale, space| Guided::around(Mixture, Mixture, scale, &rule, space).is_err();
    assert!(refused(f64::NAN, v) && refused(2.0, edm) && !refused(2.0, v));
    #[derive(Debug)]
    struct Means;
    impl Denoiser for Means {
        fn denoise(&self, x: &Tensor, _: vd_diffusion::NoiseLevel) -> vd_diffusion::Result<Tensor> {
            Ok(x.mean_dim(0, true, Kind::Double))
        }
    }
    let guided = Guided::around(Mixture, Means, 2.0, &rule, v).unwrap();
    let (x, at) = (random(7, &SIZE, Kind::Double), vd_diffusion::Schedule::at(&known::Flow, 0.5));
    let message = guided.denoise(&x, at).unwrap_err().to_string();
    assert!(message.contains("without conditions"), "{message}");
}
