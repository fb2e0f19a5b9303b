//! Conditioning of clips besides their text, and its guidance scales.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod hears;

use hears::{Model, NULLS, largest, request};
use vd_diffusion::{GuidanceConfig, NoiseRange, Signals};
use vd_tensor_ops::{Noise, SeededNoise};
use vd_text_cond::tch::{Device, Kind, Tensor};
use vd_text_cond::{Condition, GenerateRequest, GivenSignal, NullEmbedding, Text};
use vd_unet3d::SignalConfig;

const FRAMES: i64 = 3;

fn classes() -> SignalConfig {
    SignalConfig::Class { classes: ["sun", "rain", "snow"].map(str::to_owned).to_vec() }
}

fn scalar() -> SignalConfig {
    SignalConfig::Scalar { mean: 0.0, std: 1.0 }
}

fn model() -> Model {
    let (pose, low) = (SignalConfig::Series { width: 2 }, SignalConfig::Video { channels: 1 });
    Model::new(false, &[("kind", classes()), ("wind", scalar()), ("pose", pose), ("low", low)])
}

fn random(seed: u64, shape: &[i64]) -> Tensor {
    let like = Tensor::empty(shape, (Kind::Float, Device::Cpu));
    SeededNoise::new(seed, 0).normal(&like) * 0.1
}

fn given(name: &str, values: Tensor, scale: f64) -> GivenSignal {
    GivenSignal { scale, ..GivenSignal::new(name, values) }
}

fn prompts() -> Condition {
    Condition::Prompts(["red glow", "blue sea"].map(str::to_owned).to_vec())
}

fn rule(signals: Signals) -> GuidanceConfig {
    GuidanceConfig::ClassifierFree { rescale: 0.0, signals, within: NoiseRange::default() }
}

/// The network's formula, in f64: text and signals, n f each or a number for all.
fn formula(text: &Tensor, signals: &[&Tensor], without: usize) -> Tensor {
    let sum: Tensor = signals.iter().map(|signal| (*signal).shallow_clone()).sum();
    let signals = sum + NULLS[1] * without as f64;
    text + &signals + (text * &signals) * 0.5
}

/// The network's contributions for the prompts and for two signals: b f of each.
struct Parts {
    text: Tensor,
    wind: Tensor,
    pose: Tensor,
    values: [Tensor; 2],
    null: Tensor,
    none: Tensor,
}

fn parts() -> Parts {
    let encoder = vd_text_cond::Hashed::new(hears::WIDTH).unwrap();
    let rows = vd_text_cond::TextEncoder::encode(&encoder, &["red glow", "blue sea"], Device::Cpu);
    let mean = rows.unwrap().pooled.unwrap().mean_dim(1, true, Kind::Float);
    let text = (mean * hears::SMALL).expand([2, FRAMES], false);
    let values = [random(1, &[2]), random(2, &[2, FRAMES, 2])];
    let wind = values[0].unsqueeze(1).expand([2, FRAMES], false);
    let pose = values[1].mean_dim(2, false, Kind::Float);
    let (null, none) = (text.full_like(NULLS[0]), text.full_like(NULLS[1]));
    Parts { text, wind, pose, values, null, none }
}

fn ask(parts: &Parts, scales: [f64; 3], rule: GuidanceConfig) -> GenerateRequest {
    let [wind, pose] = [0, 1].map(|k| parts.values[k].shallow_clone());
    GenerateRequest {
        signals: vec![given("wind", wind, scales[0]), given("pose", pose, scales[1])],
        guidance: scales[2],
        rule,
        ..request(prompts(), FRAMES)
    }
}

#[test]
fn at_scale_1_everything_is_given_together_and_the_network_is_asked_once() {
    let (model, parts) = (model(), parts());
    for way in [Signals::Independent, Signals::Chained] {
        let said = model.said(&ask(&parts, [1.0; 3], rule(way))).unwrap();
        let expected = formula(&parts.text, &[&parts.wind, &parts.pose], 2);
        assert!(largest(&(said - expected)) < 1e-6, "{way:?}");
    }
    assert_eq!(*model.backbone.batches.lock().unwrap(), [2, 2]);
}

#[test]
fn independent_signals_are_given_alone_beside_what_has_scale_1() {
    let (model, p) = (model(), parts());
    // The text at scale 1 is in every branch.
    let said = model.said(&ask(&p, [3.0, 1.5, 1.0], rule(Signals::Independent))).unwrap();
    let none = formula(&p.text, &[&p.none, &p.none], 2);
    let wind = formula(&p.text, &[&p.wind, &p.none], 2);
    let pose = formula(&p.text, &[&p.none, &p.pose], 2);
    let expected = &none + (wind - &none) * 3.0 + (pose - &none) * 1.5;
    assert!(largest(&(said - expected)) < 1e-6);
    // One signal at scale 1, the other and the text guided.
    let said = model.said(&ask(&p, [1.0, 2.0, 4.0], rule(Signals::Independent))).unwrap();
    let none = formula(&p.null, &[&p.wind, &p.none], 2);
    let pose = formula(&p.null, &[&p.wind, &p.pose], 2);
    let text = formula(&p.text, &[&p.wind, &p.none], 2);
    let expected = &none + (pose - &none) * 2.0 + (text - &none) * 4.0;
    assert!(largest(&(said - expected)) < 1e-6);
    assert_eq!(*model.backbone.batches.lock().unwrap(), [6, 6]);
}

#[test]
fn chained_signals_are_given_one_on_the_other_in_order_and_the_text_last() {
    let (model, p) = (model(), parts());
    let said = model.said(&ask(&p, [3.0, 0.5, 2.0], rule(Signals::Chained))).unwrap();
    let branches = [
        formula(&p.null, &[&p.none, &p.none], 2),
        formula(&p.null, &[&p.wind, &p.none], 2),
        formula(&p.null, &[&p.wind, &p.pose], 2),
        formula(&p.text, &[&p.wind, &p.pose], 2),
    ];
    let mut expected = branches[0].shallow_clone();
    for (pair, scale) in branches.windows(2).zip([3.0, 0.5, 2.0]) {
        expected += (&pair[1] - &pair[0]) * scale;
    }
    assert!(largest(&(said - expected)) < 1e-6);
    // Scales near 1 give nearly the output for everything together.
    let [near, one] = [1.0 + 1e-9, 1.0]
        .map(|scale| model.said(&ask(&p, [scale; 3], rule(Signals::Chained))).unwrap());
    assert!(largest(&(near - one)) < 1e-6);
}

#[test]
fn a_text_alone_is_guided_with_all_signals_in_both_branches_under_every_rule() {
    let (model, p) = (model(), parts());
    for rule in GuidanceConfig::all() {
        let said = model.said(&ask(&p, [1.0, 1.0, 2.0], rule)).unwrap();
        assert_eq!(said.size(), [2, FRAMES]);
        let message = model.said(&ask(&p, [2.0, 1.0, 2.0], rule));
        assert_eq!(message.is_ok(), rule.name() == "classifier-free");
    }
    let said = model.said(&ask(&p, [1.0, 1.0, 2.0], rule(Signals::Independent))).unwrap();
    let [null, given] = [&p.null, &p.text].map(|text| formula(text, &[&p.wind, &p.pose], 2));
    assert!(largest(&(said - (&null + (given - &null) * 2.0))) < 1e-6);
}

#[test]
fn a_negative_prompt_stands_wherever_a_branch_goes_without_the_text() {
    let (model, p) = (model(), parts());
    let text = |prompt: &str| Text::plain(prompt).against("blue sea").unwrap();
    let texts = Condition::Texts(vec![text("red glow"), text("red glow")]);
    let ask = GenerateRequest {
        condition: texts,
        ..ask(&p, [3.0, 1.0, 2.0], rule(Signals::Independent))
    };
    let said = model.said(&ask).unwrap();
    let row = |k: i64| p.text.narrow(0, k, 1).expand([2, FRAMES], false);
    let (red, blue) = (row(0), row(1));
    let none = formula(&blue, &[&p.none, &p.pose], 2);
    let wind = formula(&blue, &[&p.wind, &p.pose], 2);
    let text = formula(&red, &[&p.none, &p.pose], 2);
    let expected = &none + (wind - &none) * 3.0 + (text - &none) * 2.0;
    assert!(largest(&(said - expected)) < 1e-6);
}

#[test]
fn stand_ins_that_training_never_showed_are_refused_by_name() {
    let untrained = |name: &str| vec![(name.to_owned(), NullEmbedding::Untrained)];
    let (model, p) = (Model { nulls: untrained("wind"), ..model() }, parts());
    let message = model.refused(&ask(&p, [2.0, 1.0, 1.0], rule(Signals::Independent)));
    assert!(message.contains("signal `wind` at scale 2") && message.contains("drop"), "{message}");
    // Parts given in every branch need no null embedding, and unknown ones are allowed.
    for scales in [[1.0, 2.0, 2.0], [1.0, 1.0, 3.0], [1.0; 3]] {
        assert!(model.said(&ask(&p, scales, rule(Signals::Chained))).is_ok());
    }
    let model = Model { null: NullEmbedding::Untrained, ..self::model() };
    assert!(model.said(&ask(&p, [2.0, 2.0, 1.0], rule(Signals::Chained))).is_ok());
    let message = model.refused(&ask(&p, [1.0, 2.0, 3.0], rule(Signals::Chained)));
    assert!(message.contains("text.drop = 0"), "{message}");
}

#[test]
fn one_value_is_shared_by_all_clips_and_others_go_with_theirs_in_any_batch() {
    let model = model();
    let names: Vec<_> = (0..5).map(|k| format!("clip {k}")).collect();
    let draw = |batch, low: Tensor| {
        let signals = vec![
            given("kind", Tensor::from_slice(&[2i64, 0, 1, 1, 0]), 2.0),
            given("low", low, 1.0),
        ];
        let condition = Condition::Prompts(names.clone());
        let ask = GenerateRequest { signals, batch, guidance: 1.5, ..request(condition, FRAMES) };
        model.said(&ask).unwrap()
    };
    let low = random(9, &[1, 1, FRAMES, 2, 2]);
    let whole = draw(5, low.shallow_clone());
    for batch in [1, 2, 3] {
        assert_eq!(draw(batch, low.expand([5, -1, -1, -1, -1], false)), whole);
    }
    assert_ne!(draw(5, random(10, &[5, 1, FRAMES, 2, 2])), whole);
}

#[test]
fn signals_that_do_not_fit_are_refused_with_what_would() {
    let model = model();
    let ints = |values: &[i64]| Tensor::from_slice(values);
    let cases = [
        (vec![given("rian", random(1, &[2]), 1.0)], "one of `kind`, `low`, `pose`, `wind`"),
        (vec![given("kind", ints(&[0, 3]), 1.0)], "sun, rain, snow, or its number from 0 to 2"),
        (vec![given("kind", ints(&[0, -1]), 1.0)], "got -1 to 0"),
        (vec![given("kind", random(1, &[2]), 1.0)], "kind Float"),
        (vec![given("kind", ints(&[0, 1, 2]), 1.0)], "shape [2] or [2, 3]"),
        (vec![given("wind", random(1, &[2, 4]), 1.0)], "got shape [2, 4]"),
        (vec![given("wind", random(1, &[2]) * f64::NAN, 1.0)], "NaN or infinity"),
        (vec![given("pose", random(1, &[2, 3]), 1.0)], "shape [2, 2] or [2, 3, 2]"),
        (vec![given("low", random(1, &[2, 1, 3, 2, 4]), 1.0)], "shape [2, 1, 3, 2, 2]"),
        (vec![given("low", random(1, &[2, 1, 3, 2, 2]) + 1.5, 1.0)], "pixels in [-1, 1], got 1."),
        (vec![given("wind", Tensor::from(0.5f32), 1.0)], "got shape []"),
        (
            vec![given("wind", random(1, &[2]), 1.0), given("wind", random(1, &[2]), 1.0)],
            "expected it given once",
        ),
        (vec![given("wind", random(1, &[2]), f64::NAN)], "finite"),
    ];
    for (signals, expected) in cases {
        let message = model.refused(&GenerateRequest { signals, ..request(prompts(), FRAMES) });
        assert!(message.contains(expected), "{expected}: {message}");
    }
    let mut plain = Model::new(false, &[]);
    let signals = || vec![given("wind", random(1, &[2]), 1.0)];
    let ask = GenerateRequest { signals: signals(), ..request(prompts(), FRAMES) };
    assert!(plain.refused(&ask).contains("takes no signals"));
    // A network that takes only signals.
    plain = self::model();
    plain.backbone.text = false;
    let message = plain.refused(&request(prompts(), FRAMES));
    assert!(message.contains("takes no prompts, only signals (kind, low"), "{message}");
    let nothing = || Condition::Nothing { clips: 2 };
    let ask = GenerateRequest { signals: signals(), guidance: 2.0, ..request(nothing(), FRAMES) };
    assert!(plain.refused(&ask).contains("signals have their own scales"));
    let signals = vec![given("wind", random(1, &[2]), 2.0)];
    assert!(plain.said(&GenerateRequest { signals, guidance: 1.0, ..ask }).is_ok());
}
