//! Guidance away from given conditioning.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod guided;
mod known;

use guided::{SIZE, cond, diffusion};
use known::{Toy, largest, random};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::unet3d::Tokens;
use vd_diffusion::{
    Backbone, Cond, Denoiser, FrameMask, GuidanceConfig, Noise, NoiseRange, Parameterization,
    Progress, Signal, Signals, unet3d,
};

fn signal(cond: Cond, scale: f64) -> Vec<Signal> {
    vec![Signal { cond, scale }]
}

/// Every rule, with all its options.
fn rules() -> Vec<GuidanceConfig> {
    let (signals, within) = (Default::default(), NoiseRange::default());
    let mut rules = GuidanceConfig::all();
    rules.push(GuidanceConfig::ClassifierFree { rescale: 0.7, signals, within });
    rules.push(GuidanceConfig::Apg { eta: 0.3, norm_threshold: 1.0, momentum: -0.5, within });
    rules.push(rules[3].limited(NoiseRange::T([0.0, 0.5])));
    rules
}

#[test]
fn against_the_stand_in_is_guidance_as_ever_bit_for_bit() {
    for space in [Parameterization::Epsilon, Parameterization::V, Parameterization::X0] {
        let (diffusion, toy) = (diffusion(space), Toy::conditional());
        for (rule, scale) in rules().iter().flat_map(|rule| [(rule, 3.0), (rule, 1.0)]) {
            let given = || signal(cond(1), scale);
            let plain = diffusion.guided_by(&toy, given(), FrameMask::All, rule).unwrap();
            let null = cond(1).nulled();
            let against = diffusion.guided_against(&toy, given(), null, FrameMask::All, rule);
            let against = against.unwrap();
            for denoiser in [&plain, &against] {
                denoiser.follow(Progress::Sampling { steps: 3 });
            }
            for (seed, t) in [(3, 0.9), (4, 0.6), (5, 0.3)] {
                let (x, at) = (random(seed, &SIZE, Kind::Double), diffusion.schedule().at(t));
                let [a, b] = [&plain, &against].map(|d| d.denoise(&x, at).unwrap());
                assert_eq!(a, b, "{space:?}, {rule:?}, {scale}, {t}");
            }
        }
    }
}

#[test]
fn against_the_prompt_itself_any_scale_gives_the_answer_to_the_prompt() {
    let diffusion = diffusion(Parameterization::V);
    let toy = Toy::conditional();
    let (x, at) = (random(6, &SIZE, Kind::Double), diffusion.schedule().at(0.5));
    let plain = diffusion.denoiser(&toy, cond(7), FrameMask::All).denoise(&x, at).unwrap();
    for rule in rules() {
        for scale in [0.0, 2.0, 7.5, -3.0] {
            let guided = diffusion.guided_against(
                &toy,
                signal(cond(7), scale),
                cond(7),
                FrameMask::All,
                &rule,
            );
            let off = guided.unwrap().denoise(&x, at).unwrap() - &plain;
            // Rounding of velocities and of the divisors of CFG-Zero*.
            assert!(largest(&off) < 1e-12, "{rule:?} at {scale}: {}", largest(&off));
        }
    }
}

#[test]
fn a_negative_prompt_takes_the_place_of_the_stand_in_in_one_batch() {
    let diffusion = diffusion(Parameterization::X0);
    let toy = Toy::conditional();
    let (x, at) = (random(8, &SIZE, Kind::Double), diffusion.schedule().at(0.4));
    let answer = |cond| diffusion.denoiser(&toy, cond, FrameMask::All).denoise(&x, at).unwrap();
    // One of the samples has no negative prompt: it is guided away from the null embedding.
    let negative = cond(10).with_null(Tensor::from_slice(&[false, true, false]));
    let (given, null) = (answer(cond(9)), answer(negative.shallow_clone()));
    assert!(largest(&(null.get(1) - answer(cond(9).nulled()).get(1))) < 1e-15);
    let rule = GuidanceConfig::default();
    let asked = Toy::conditional();
    let signals = signal(cond(9), 2.5);
    let guided = diffusion.guided_against(&asked, signals, negative, FrameMask::All, &rule);
    let got = guided.unwrap().denoise(&x, at).unwrap();
    assert!(largest(&(got - (&null + (&given - &null) * 2.5))) < 1e-14);
    assert_eq!(asked.batches(), [6]);
}

#[test]
fn several_signals_are_pulled_away_from_the_same_choice() {
    let diffusion = diffusion(Parameterization::X0);
    let toy = Toy::conditional();
    let (x, at) = (random(11, &SIZE, Kind::Double), diffusion.schedule().at(0.7));
    let answer = |cond| diffusion.denoiser(&toy, cond, FrameMask::All).denoise(&x, at).unwrap();
    let [a, b, null] = [12, 13, 14].map(|seed| answer(cond(seed)));
    for (way, base) in [(Signals::Independent, &null), (Signals::Chained, &a)] {
        let (rescale, within) = Default::default();
        let rule = GuidanceConfig::ClassifierFree { rescale, signals: way, within };
        let both = [signal(cond(12), 3.0), signal(cond(13), 1.5)].into_iter().flatten().collect();
        let guided = diffusion.guided_against(&toy, both, cond(14), FrameMask::All, &rule);
        let expected = &null + (&a - &null) * 3.0 + (&b - base) * 1.5;
        let got = guided.unwrap().denoise(&x, at).unwrap();
        assert!(largest(&(got - expected)) < 1e-13, "{way:?}");
    }
}

/// Conditioned on tokens and on a signal, but on no embedding.
#[derive(Debug)]
struct Hears;

impl Backbone for Hears {
    fn forward(
        &self,
        x: &Tensor,
        _: &Tensor,
        cond: &Cond,
        _: &FrameMask,
        _: Option<&mut dyn Noise>,
    ) -> unet3d::Result<Tensor> {
        let mut rows = Tensor::zeros([x.size()[0]], (x.kind(), x.device()));
        let there = |null: &Option<Tensor>| match null {
            Some(null) => null.logical_not().to_kind(x.kind()),
            None => rows.ones_like(),
        };
        let mut parts = Vec::new();
        if let Some(tokens) = &cond.tokens {
            let sums = (&tokens.values * tokens.weight.unsqueeze(-1)).sum_dim_intlist(
                [1i64, 2].as_slice(),
                false,
                x.kind(),
            );
            parts.push(sums * there(&cond.null));
        }
        parts.extend(cond.signals.values().map(|given| &given.value * there(&given.null)));
        for part in parts {
            rows += part;
        }
        Ok((x * 0.7 + rows.view([-1, 1, 1, 1])).tanh())
    }

    fn is_conditional(&self) -> bool {
        true
    }
}

#[test]
fn tokens_and_signals_without_an_embedding_are_conditions_too() {
    let diffusion = diffusion(Parameterization::V);
    let (x, at) = (random(15, &SIZE, Kind::Double), diffusion.schedule().at(0.6));
    let text = |seed, l| {
        let weight = random(seed + 1, &[3, l], Kind::Double).abs();
        let values = random(seed, &[3, l, 2], Kind::Double);
        Cond::none().with_tokens(Tokens { values, weight })
    };
    let rain = || random(16, &[3], Kind::Double);
    let rule = GuidanceConfig::default();
    let answer = |cond| diffusion.denoiser(&Hears, cond, FrameMask::All).denoise(&x, at).unwrap();
    // Texts of different lengths.
    let (given, against) = (text(20, 4).with_signal("rain", rain()), text(30, 2));
    let against = against.with_signal("rain", rain());
    let expected = answer(against.shallow_clone());
    let expected = &expected + (answer(given.shallow_clone()) - &expected) * 4.0;
    let got = diffusion
        .guided_against(&Hears, signal(given, 4.0), against, FrameMask::All, &rule)
        .unwrap();
    assert!(largest(&(got.denoise(&x, at).unwrap() - expected)) < 1e-13);
    let alone = || Cond::none().with_signal("rain", rain());
    let got = diffusion.guided_by(&Hears, signal(alone(), 2.0), FrameMask::All, &rule).unwrap();
    let null = answer(alone().nulled());
    let expected = &null + (answer(alone()) - &null) * 2.0;
    assert!(largest(&(got.denoise(&x, at).unwrap() - expected)) < 1e-13);
    // A part that only one of them has cannot be evaluated in one batch.
    let refused =
        diffusion.guided_against(&Hears, signal(alone(), 2.0), text(40, 3), FrameMask::All, &rule);
    assert!(refused.unwrap_err().to_string().contains("every part"));
}
