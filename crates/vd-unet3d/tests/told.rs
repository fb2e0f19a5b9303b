//! Conditioning inputs besides a pooled embedding: their effect, and their null embeddings.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../vd-tensor-ops/tests/oracle/mod.rs"]
mod oracle;
mod small;

use std::collections::BTreeMap;

use oracle::draw::{cases, normal};
use oracle::{array, relative};
use proptest::prelude::*;
use small::{
    ask, bits, build, everything, mix, mixes, scene, told, with_cond, with_given, with_some_null,
};
use tch::{Kind, Tensor};
use vd_unet3d::ops::Params;
use vd_unet3d::ops::torch::testing::{device, tolerance};
use vd_unet3d::{Backbone, Cond, Given, SignalConfig, Tokens, TokensConfig, UNet3d, UNet3dConfig};

/// Tolerance for two orders of the same sums through the whole network in f64: measured below
/// 1e-14.
const SAME: f64 = 1e-13;
/// Roundings to eight bits through the whole network: measured below 0.06.
const HALF: f64 = 0.2;

const SIZE: [i64; 4] = [3, 3, 4, 6];

/// The grown network's parameters, with those of a plain one where names agree; the first inputs of
/// the first convolution are the plain one's.
fn grown(params: &Params, plain: &Params) -> BTreeMap<String, Tensor> {
    let mut values = params.tensors();
    for (name, value) in plain.tensors() {
        let new = &values[&name];
        let more = new.size().get(1).copied().unwrap_or(0) - value.size().get(1).unwrap_or(&0);
        let value = if more == 0 {
            value
        } else {
            assert_eq!(name, "init_conv.weight");
            let at = value.size()[1];
            assert_eq!(new.narrow(1, at, more).abs().max().double_value(&[]), 0.0);
            Tensor::cat(&[&value, &new.narrow(1, at, more)], 1)
        };
        values.insert(name, value);
    }
    values
}

#[test]
fn what_starts_at_zero_leaves_the_answer_as_it_was() {
    let cross = TokensConfig { memory: 0, pool: false, ..everything().tokens.unwrap() };
    let more = UNet3dConfig {
        tokens: Some(cross),
        spatial_bias: false,
        token_shift: vec![],
        ..everything()
    };
    let less = UNet3dConfig { tokens: None, signals: BTreeMap::new(), ..more.clone() };
    for kind in [Kind::Double, Kind::Float] {
        let fresh = |config: &UNet3dConfig| {
            let mut params = Params::new(5, kind, device());
            let net = UNet3d::new(config, &mut params.root()).unwrap();
            (net, params)
        };
        let (net, params) = fresh(&more);
        let scene = scene(&more, kind, 2, SIZE);
        let pooled = Cond::pooled(scene.cond.pooled.as_ref().unwrap().shallow_clone());
        let nulls = with_some_null(&scene.cond, 3, 0b101_110_011_010_001_100);
        let silent = pooled.with_null(nulls.null.as_ref().unwrap().shallow_clone());
        // The same seed initialises both alike; a trained network becomes the other one.
        let (young, start) = fresh(&less);
        let values = grown(&params, &start);
        assert!(params.tensors().iter().all(|(name, value)| *value == values[name]));
        let (old, learned) = build(&less, kind, 1);
        for (plain, values) in [(young, values), (old, grown(&params, &learned))] {
            params.load(&values).unwrap();
            for (cond, without) in [(&scene.cond, &pooled), (&nulls, &silent)] {
                let expected = ask(&plain, &with_cond(&scene, without.shallow_clone()));
                let got = ask(&net, &with_cond(&scene, cond.shallow_clone()));
                // Measured 3.1e-6 in f32, which is the rounding of more inputs in another order.
                let bound = if kind == Kind::Double { 1e-13 } else { tolerance(5e-6) };
                assert!(relative(&got, &array(&expected)) <= bound);
            }
        }
    }
}

#[test]
fn large_numbers_keep_the_digits_that_tell_them_apart() {
    let at = |mean: f64, value: &Tensor, kind: Kind| {
        let time = SignalConfig::Scalar { mean, std: 10.0 };
        let signals = BTreeMap::from([("time".to_owned(), time)]);
        let config = UNet3dConfig { signals, ..small::config() };
        let (net, _) = build(&config, kind, 4);
        let given = Given { value: value.shallow_clone(), null: None };
        let scene = scene(&config, kind, 4, SIZE);
        ask(&net, &with_cond(&scene, with_given(&Cond::none(), "time", given)))
    };
    // Seconds since 1970: single precision represents only every 128th.
    let epoch = 1.7e9;
    let seconds = Tensor::from_slice(&[-7.0, 3.0, 4.5]).to_device(device());
    for kind in [Kind::Double, Kind::Float, Kind::BFloat16] {
        let small = at(0.0, &seconds, kind);
        assert_eq!(at(epoch, &(&seconds + epoch), kind), small);
        assert_ne!(at(0.0, &(&seconds + 1.0), kind), small);
    }
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn null_is_the_same_as_absent(config in mixes(), draws: u64) {
        let (net, _) = build(&config, Kind::Double, draws);
        let base = scene(&config, Kind::Double, draws, SIZE);
        let silent = ask(&net, &with_cond(&base, Cond::none()));
        let nulled = ask(&net, &with_cond(&base, base.cond.nulled()));
        prop_assert!(relative(&nulled, &array(&silent)) <= SAME);
        // Each separately, with the rest given.
        for name in config.signals.keys() {
            let mut without = base.cond.shallow_clone();
            without.signals.remove(name);
            let expected = array(&ask(&net, &with_cond(&base, without)));
            let null = base.cond.keeping(true, |other| other != name);
            prop_assert!(relative(&ask(&net, &with_cond(&base, null)), &expected) <= SAME);
        }
        let text = Cond { pooled: None, tokens: None, ..base.cond.shallow_clone() };
        let expected = array(&ask(&net, &with_cond(&base, text)));
        let null = base.cond.keeping(false, |_| true);
        prop_assert!(relative(&ask(&net, &with_cond(&base, null)), &expected) <= SAME);
        // A null sample may have any value, even a class that does not exist.
        if config.signals.contains_key("weather") {
            let rows = bits(3, draws);
            let value = mix(&rows, &Tensor::from_slice(&[-1i64, 99, 3]).to_device(device()),
                &base.cond.signals["weather"].value);
            let null = || Some(rows.shallow_clone());
            let one = with_given(&base.cond, "weather", Given { value, null: null() });
            let own = base.cond.signals["weather"].value.shallow_clone();
            let other = with_given(&base.cond, "weather", Given { value: own, null: null() });
            let [one, other] = [one, other].map(|cond| ask(&net, &with_cond(&base, cond)));
            prop_assert_eq!(one, other);
        }
    }

    #[test]
    fn tokens_count_by_their_weights(
        config in mixes(), seed: u64, per_frame: bool, more in 1i64..4,
    ) {
        prop_assume!(config.tokens.is_some());
        let (net, _) = build(&config, Kind::Double, seed);
        let base = scene(&config, Kind::Double, seed, SIZE);
        let cond = told(&config, Kind::Double, seed, SIZE, per_frame);
        let expected = array(&ask(&net, &with_cond(&base, cond.shallow_clone())));
        let Tokens { values, weight } = cond.tokens.as_ref().unwrap().shallow_clone();
        let ask_with = |values: &[&Tensor], weight: &[&Tensor]| {
            let tokens =
                Tokens { values: Tensor::cat(values, 1), weight: Tensor::cat(weight, -1) };
            let cond = cond.shallow_clone().with_tokens(tokens);
            relative(&ask(&net, &with_cond(&base, cond)), &expected)
        };
        // Padding with any content; and a token repeated with half of its weight.
        let padding = normal(seed ^ 3, &[3, more, 6]) * 7.0;
        let nothing = weight.narrow(-1, 0, 1).repeat(
            if per_frame { vec![1, 1, more] } else { vec![1, more] }) * 0.0;
        prop_assert!(ask_with(&[&values, &padding], &[&weight, &nothing]) <= SAME);
        let half = &weight * 0.5;
        prop_assert!(ask_with(&[&values, &values], &[&half, &half]) <= SAME);
    }

    #[test]
    fn a_text_of_which_no_token_counts_is_no_text(config in mixes(), seed: u64) {
        prop_assume!(config.tokens.as_ref().is_some_and(|t| t.pool) || config.cond_dim.is_none());
        let (net, _) = build(&config, Kind::Double, seed);
        let base = scene(&config, Kind::Double, seed, SIZE);
        prop_assume!(base.cond.tokens.is_some());
        let rows = bits(3, seed >> 9);
        let mut empty = base.cond.shallow_clone();
        if let Some(tokens) = &mut empty.tokens {
            tokens.weight = tokens.weight.masked_fill(&rows.unsqueeze(1), 0.0);
        }
        let null = base.cond.with_null(rows);
        let expected = array(&ask(&net, &with_cond(&base, null)));
        prop_assert!(relative(&ask(&net, &with_cond(&base, empty)), &expected) <= SAME);
    }

    #[test]
    fn telling_every_frame_the_same_is_telling_the_clip(config in mixes(), draws: u64) {
        let (net, _) = build(&config, Kind::Double, draws);
        let base = scene(&config, Kind::Double, draws, SIZE);
        let once = with_some_null(&base.cond, 3, draws >> 4);
        let each = |x: &Tensor| {
            let mut times = vec![1; x.dim() + 1];
            times[1] = SIZE[1];
            x.unsqueeze(1).repeat(times.as_slice())
        };
        let mut all = once.shallow_clone();
        all.pooled = all.pooled.as_ref().map(each);
        if let Some(tokens) = &mut all.tokens {
            tokens.weight = each(&tokens.weight);
        }
        for given in all.signals.values_mut().filter(|given| given.value.dim() < 5) {
            given.value = each(&given.value);
        }
        let [once, all] = [once, all].map(|cond| ask(&net, &with_cond(&base, cond)));
        prop_assert!(relative(&all, &array(&once)) <= SAME);
    }

    #[test]
    fn half_precision_tells_the_same(config in mixes(), seed: u64) {
        let (double, params) = build(&config, Kind::Double, seed);
        let mut short = Params::new(seed, Kind::BFloat16, device());
        let net = UNet3d::new(&config, &mut short.root()).unwrap();
        let round = |(name, value): (String, Tensor)| (name, value.to_kind(Kind::BFloat16));
        short.load(&params.tensors().into_iter().map(round).collect()).unwrap();
        let exact = scene(&config, Kind::Double, seed, SIZE);
        let expected = array(&ask(&double, &exact));
        // Conditioning may be of any precision.
        for kind in [Kind::Double, Kind::Float, Kind::BFloat16] {
            let cond = told(&config, kind, seed, SIZE, false);
            let got = net.forward(&exact.x, &exact.t, &cond, &exact.frames, None).unwrap();
            prop_assert_eq!(got.kind(), Kind::BFloat16);
            let error = relative(&got, &expected);
            prop_assert!(error < HALF, "{kind:?}: {error:e}");
        }
    }
}
