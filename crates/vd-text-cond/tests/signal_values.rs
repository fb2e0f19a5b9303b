//! The values of signals: as written, and as passed to the network.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod hears;

use hears::{Model, NULLS, request};
use vd_text_cond::tch::{Device, Kind, Tensor};
use vd_text_cond::{Condition, GenerateRequest, GivenSignal, SignalValue};
use vd_unet3d::SignalConfig;

fn classes() -> SignalConfig {
    SignalConfig::Class { classes: ["sun", "rain", "snow"].map(str::to_owned).to_vec() }
}

fn scalar() -> SignalConfig {
    SignalConfig::Scalar { mean: 0.0, std: 1.0 }
}

/// Seconds since 1970, of which f32 distinguishes no two within a minute.
const NOON: f64 = 1_700_000_000.0;

/// A network conditioned on the time in hours since noon, and on no text.
fn clock(signal: SignalConfig) -> Model {
    let mut model = Model::new(false, &[("time", signal)]);
    model.backbone.text = false;
    model
}

#[test]
fn a_scalar_keeps_its_digits_until_the_network_has_it() {
    let time = SignalConfig::Scalar { mean: NOON, std: 3600.0 };
    let model = clock(time.clone());
    for minutes in [0.0, 1.0, 6.0, -30.0] {
        let value = SignalValue::Number(NOON + 60.0 * minutes).tensor("time", &time).unwrap();
        let signals = vec![GivenSignal::new("time", value)];
        let nothing = Condition::Nothing { clips: 1 };
        let said = model.said(&GenerateRequest { signals, ..request(nothing, 2) }).unwrap();
        let expected = NULLS[0] + (1.0 + 0.5 * NULLS[0]) * minutes / 60.0;
        // a few roundings of numbers below 1 in f32
        assert!((said - expected).abs().max().double_value(&[]) < 1e-6, "{minutes}");
    }
    let list = SignalValue::Numbers(vec![NOON, NOON + 1.0]).tensor("time", &time).unwrap();
    assert_eq!(list.double_value(&[0, 1]) - list.double_value(&[0, 0]), 1.0);
}

#[test]
fn what_generate_would_refuse_shows_before_it_is_called() {
    let model = clock(scalar());
    let given = |name: &str, values: Tensor| GivenSignal::new(name, values);
    let check = |signal: GivenSignal| signal.check(&model.backbone, 2, [3, 4, 4]);
    check(given("time", Tensor::from_slice(&[1.0, 2.0]))).unwrap();
    check(given("time", Tensor::zeros([1, 3], (Kind::Float, Device::Cpu)))).unwrap();
    for (signal, expected) in [
        (given("tide", Tensor::from_slice(&[1.0])), "one of `time`"),
        (given("time", Tensor::from_slice(&[1.0, 2.0, 3.0])), "shape [2] or [2, 3]"),
        (given("time", Tensor::from_slice(&[f64::NAN])), "finite"),
    ] {
        let message = check(signal).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let video = clock(SignalConfig::Video { channels: 1 });
    let ask = |by: f64| {
        let values = Tensor::full([1, 1, 3, 4, 4], by, (Kind::Float, Device::Cpu));
        given("time", values).check(&video.backbone, 2, [3, 4, 4])
    };
    // the result of upsampling white, and values that are not pixels
    ask(1.0 + f64::from(f32::EPSILON)).unwrap();
    assert!(ask(-1.01).unwrap_err().to_string().contains("pixels in [-1, 1], got -1.0"));
}

#[test]
fn a_number_is_the_class_of_that_name_and_a_place_only_where_no_name_is_a_number() {
    let digits = SignalConfig::Class { classes: ["7", "2", "0.5"].map(str::to_owned).to_vec() };
    let of = |value: SignalValue| value.tensor("it", &digits);
    assert_eq!(of(SignalValue::Number(2.0)).unwrap(), Tensor::from_slice(&[1i64]));
    let list = SignalValue::Numbers(vec![7.0, 0.5, 2.0]);
    assert_eq!(of(list).unwrap(), Tensor::from_slice(&[0i64, 2, 1]).unsqueeze(0));
    for value in [SignalValue::Number(0.0), SignalValue::Numbers(vec![2.0, 1.0])] {
        let message = of(value).unwrap_err().to_string();
        assert!(message.contains("expected a class by its name: 7, 2, 0.5"), "{message}");
    }
}

#[test]
fn values_are_read_as_the_config_has_them() {
    let [name, number, numbers, rows] = [
        SignalValue::Name("snow".to_owned()),
        SignalValue::Number(1.0),
        SignalValue::Numbers(vec![0.0, 2.0]),
        SignalValue::Rows(vec![vec![0.5, 1.0], vec![1.5, 2.0], vec![2.5, 3.0]]),
    ];
    let series = SignalConfig::Series { width: 2 };
    let (kind, wind) = (classes(), scalar());
    let of = |value: &SignalValue, config| value.tensor("it", config).unwrap();
    assert_eq!(of(&name, &kind), Tensor::from_slice(&[2i64]));
    assert_eq!(of(&number, &kind), Tensor::from_slice(&[1i64]));
    assert_eq!(of(&numbers, &kind), Tensor::from_slice(&[0i64, 2]).unsqueeze(0));
    assert_eq!(of(&number, &wind), Tensor::from_slice(&[1.0f32]));
    assert_eq!(of(&numbers, &wind), Tensor::from_slice(&[0.0f32, 2.0]).unsqueeze(0));
    assert_eq!(of(&numbers, &series), Tensor::from_slice(&[0.0f32, 2.0]).unsqueeze(0));
    let thin = SignalConfig::Series { width: 1 };
    assert_eq!(of(&numbers, &thin), Tensor::from_slice(&[0.0f32, 2.0]).view([1, 2, 1]));
    assert_eq!(of(&number, &thin), Tensor::from_slice(&[1.0f32]).view([1, 1]));
    let flat = Tensor::from_slice(&[0.5f32, 1.0, 1.5, 2.0, 2.5, 3.0]);
    assert_eq!(of(&rows, &series), flat.view([1, 3, 2]));
    let refused = [
        (SignalValue::Name("fog".to_owned()), &kind),
        (SignalValue::Number(3.0), &kind),
        (SignalValue::Number(0.5), &kind),
        (SignalValue::Numbers(vec![]), &kind),
        (rows, &wind),
        (SignalValue::Numbers(vec![1.0, 2.0, 3.0]), &series),
        (SignalValue::Rows(vec![vec![1.0, 2.0], vec![1.0]]), &series),
        (SignalValue::Name("a.gif".to_owned()), &SignalConfig::Video { channels: 3 }),
    ];
    for (value, config) in refused {
        let message = value.tensor("it", config).unwrap_err().to_string();
        assert!(message.contains("signal `it`: expected a "), "{message}");
    }
}
