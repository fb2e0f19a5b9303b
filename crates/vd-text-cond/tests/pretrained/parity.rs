//! Tokens, hidden states and pooled vectors of tiny random models (tests/encoders/fixtures.py).

use proptest::prelude::*;
use vd_text_cond::{EncoderConfig, Layer, Pooling, Precision};

use super::*;

/// The required tolerance; f32 rounding over two layers accounts for about 1e-6 of it.
const CLOSE: f64 = 1e-5;

#[test]
fn tokens_are_those_of_transformers() {
    for name in NAMES {
        let (expected, encoder) = (Expected::of(name), encoder(&config(name)));
        for (i, prompt) in expected.prompts().into_iter().enumerate() {
            assert_eq!(encoder.token_ids(prompt).unwrap(), expected.ids(i), "{name}: {prompt:?}");
        }
    }
}

#[test]
fn hidden_states_are_those_of_transformers_in_either_layer_and_behind_padding() {
    for name in NAMES {
        let expected = Expected::of(name);
        for (layer, key) in [(Layer::Last, "last"), (Layer::Penultimate, "penultimate")] {
            let encoder = encoder(&PretrainedConfig { layer, ..config(name) });
            let cond = encoder.encode(&expected.prompts(), Device::Cpu).unwrap();
            let tokens = cond.tokens.unwrap();
            assert_eq!(tokens.values.size()[2], encoder.token_width().unwrap());
            for i in 0..expected.prompts.len() {
                let state = &expected.tensors[&format!("{key}.{i}")];
                let (l, longest) = (state.size()[0], tokens.values.size()[1]);
                let row = tokens.values.get(i as i64);
                let far = distance(&row.narrow(0, 0, l), state);
                assert!(far < CLOSE, "{name} {key} {i}: {far}");
                let weight = tokens.weight.get(i as i64);
                assert_eq!(weight.narrow(0, 0, l).min().double_value(&[]), 1.0);
                assert_eq!(weight.sum(Kind::Float).double_value(&[]), l as f64);
                let padding = row.narrow(0, l, longest - l);
                assert_eq!(padding.abs().sum(Kind::Float).double_value(&[]), 0.0);
            }
        }
    }
}

#[test]
fn pooled_vectors_are_those_of_transformers_and_of_the_peer() {
    let every = [
        (Pooling::Cls, "cls"),
        (Pooling::Mean, "mean"),
        (Pooling::Peer, "peer"),
        (Pooling::Eos, "eos"),
    ];
    for name in NAMES {
        let expected = Expected::of(name);
        for (pooling, key) in every {
            let encoder = encoder(&PretrainedConfig { pooling, ..config(name) });
            let far = distance(&pooled(&encoder, &expected.prompts()), &expected.tensors[key]);
            assert!(far < CLOSE, "{name} {key}: {far}");
        }
    }
}

#[test]
fn a_normalised_vector_has_length_1_and_the_direction_of_the_other() {
    let plain = encoder(&config("bert"));
    let unit = encoder(&PretrainedConfig { normalize: true, ..config("bert") });
    let prompts = ["a red firework", "", "gold"];
    let (x, y) = (pooled(&plain, &prompts), pooled(&unit, &prompts));
    let length = x.norm_scalaropt_dim(2.0, [1], true);
    assert!(distance(&(&y * &length), &x) < 1e-6);
    let ones = Tensor::ones([3, 1], (Kind::Float, Device::Cpu));
    assert!(distance(&y.norm_scalaropt_dim(2.0, [1], true), &ones) < 1e-6);
}

#[test]
fn half_precision_stays_near_and_gives_f32() {
    let expected = Expected::of("bert");
    // 8 and 11 bits of significand over two layers whose states are of size 2: measured .10, .008
    for (precision, most) in [(Precision::Bf16, 0.2), (Precision::F16, 0.02)] {
        let encoder = encoder(&PretrainedConfig { precision, ..config("bert") });
        let got = pooled(&encoder, &expected.prompts());
        assert_eq!(got.kind(), Kind::Float);
        let far = distance(&got, &expected.tensors["mean"]);
        assert!(far > 1e-5 && far < most, "{precision:?}: {far}");
    }
}

#[test]
fn a_prompt_among_others_is_what_it_is_alone_whatever_the_batch() {
    let expected = Expected::of("roberta");
    let whole = pooled(&encoder(&config("roberta")), &expected.prompts());
    let twice = [expected.prompts(), expected.prompts()].concat();
    for batch in [1, 2, 5] {
        let encoder = encoder(&PretrainedConfig { batch, ..config("roberta") });
        let got = pooled(&encoder, &twice);
        let (first, second) = (got.narrow(0, 0, 6), got.narrow(0, 6, 6));
        assert_eq!(first, second);
        // measured 7e-7 at most
        assert!(distance(&first, &whole) < 2e-6);
    }
    let none = encoder(&config("bert")).encode(&[], Device::Cpu).unwrap();
    assert_eq!(none.pooled.unwrap().size(), [0, 16]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn neighbours_change_no_more_than_the_last_bits(
        prompts in prop::collection::vec("[a-z ]{0,24}", 2..6),
    ) {
        let list: Vec<_> = prompts.iter().map(String::as_str).collect();
        let together = pooled(&encoder(&config("bert")), &list);
        for (row, prompt) in (0..).zip(&list) {
            let alone = pooled(&encoder(&config("bert")), &[prompt]);
            // f32 sums in another order: 1e-6 of values up to 3; measured 2e-6 at most
            prop_assert!(distance(&alone.get(0), &together.get(row)) < 5e-6);
        }
    }
}

#[test]
fn a_config_of_few_words_has_the_defaults() {
    let read = |text: &str| toml::from_str::<EncoderConfig>(text).map_err(|e| e.to_string());
    let few = read("kind = \"pretrained\"\npath = \"m\"").unwrap();
    assert_eq!(few, EncoderConfig::Pretrained(PretrainedConfig::new("m")));
    let many = PretrainedConfig {
        pooling: Pooling::Eos,
        layer: Layer::Penultimate,
        normalize: true,
        truncate: true,
        precision: Precision::Bf16,
        batch: 3,
        cache: Some("c".into()),
        ..PretrainedConfig::new("m")
    };
    let many = EncoderConfig::Pretrained(many);
    assert_eq!(read(&toml::to_string(&many).unwrap()), Ok(many));
    for (text, part) in [
        ("path = \"m\"\npooling = \"max\"", "cls"),
        ("path = \"m\"\nlayer = \"first\"", "penultimate"),
        ("path = \"m\"\nprecision = \"f8\"", "bf16"),
        ("path = \"m\"\ntrunkate = true", "truncate"),
        ("batch = 3", "path"),
    ] {
        let message = read(&format!("kind = \"pretrained\"\n{text}")).unwrap_err();
        assert!(message.contains(part), "{text}: {message}");
    }
    let none = EncoderConfig::Pretrained(PretrainedConfig { batch: 0, ..config("bert") });
    assert!(none.validate().unwrap_err().to_string().contains("text.encoder.batch"));
}
