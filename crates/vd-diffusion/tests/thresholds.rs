//! Keeping x0-hat in range.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{largest, random, values};
use vd_diffusion::tch::{Device, Kind, Tensor};
use vd_diffusion::{Denoiser, NoiseLevel, Result, Threshold, Thresholded};

#[test]
fn the_dynamic_threshold_of_known_numbers() {
    // |x|: rank 0.9 * 4 = 3.6 lies between 2 and 4, at 3.2; the second sample is in range.
    let x = Tensor::from_slice(&[0.0, -0.5, 1.0, -2.0, 4.0, 0.1, 0.2, -0.3, 0.9, -0.95]);
    let got = Threshold::dynamic().apply(x.view([2, 5, 1])).unwrap();
    assert_eq!(got.size(), [2, 5, 1]);
    let expected = [0.0, -0.15625, 0.3125, -0.625, 1.0, 0.1, 0.2, -0.3, 0.9, -0.95].map(|v: f64| v);
    for (got, expected) in values(&got).iter().zip(expected) {
        assert!((got - expected).abs() < 1e-15, "{got} for {expected}");
    }
}

#[test]
fn the_dynamic_threshold_is_the_percentile_of_sorted_numbers() {
    for (seed, n) in [(1, 1), (2, 2), (3, 77), (4, 1000)] {
        for percentile in [0.0, 0.25, 0.9, 0.995, 1.0] {
            let x = random(seed, &[3, n], Kind::Double) * 3.0;
            let got = Threshold::Dynamic { percentile }.apply(x.shallow_clone()).unwrap();
            for i in 0..3 {
                let row = values(&x.get(i));
                let mut sorted: Vec<f64> = row.iter().map(|v| v.abs()).collect();
                sorted.sort_by(f64::total_cmp);
                let rank = percentile * (n - 1) as f64;
                let (low, high) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
                let s = (low + (high - low) * rank.fract()).max(1.0);
                for (got, x) in values(&got.get(i)).iter().zip(&row) {
                    assert!((got - x.clamp(-s, s) / s).abs() < 1e-14);
                }
            }
        }
    }
}

#[test]
fn samples_of_more_than_sixteen_million_numbers_have_a_percentile() {
    // torch.quantile refuses these.
    let n = (1 << 24) + 3;
    let x = Tensor::linspace(0.0, 4.0, n, (Kind::Float, Device::Cpu));
    let got = Threshold::dynamic().apply(x.view([1, n])).unwrap();
    // |x| is even on [0, 4]: the percentile is 3.6, and a value of 1.8 becomes 0.5.
    assert!((got.double_value(&[0, n * 9 / 20]) - 0.5).abs() < 1e-6);
    assert_eq!(got.double_value(&[0, n - 1]), 1.0);
}

#[test]
fn static_clamps_and_none_does_nothing() {
    let x = random(5, &[4, 6], Kind::Float) * 2.0;
    let clamped = Threshold::Static.apply(x.shallow_clone()).unwrap();
    assert_eq!(clamped, x.clamp(-1.0, 1.0));
    assert_eq!(Threshold::None.apply(x.shallow_clone()).unwrap(), x);
}

#[derive(Debug)]
struct Double;

impl Denoiser for Double {
    fn denoise(&self, x: &Tensor, _: NoiseLevel) -> Result<Tensor> {
        Ok(x * 2.0)
    }
}

#[test]
fn the_wrapper_applies_the_rule_to_x0_hat() {
    let x = random(6, &[2, 50], Kind::Double);
    let at = NoiseLevel { t: 0.5, alpha: 0.8, sigma: 0.6 };
    for rule in [Threshold::None, Threshold::Static, Threshold::dynamic()] {
        let wrapped = Thresholded::new(Double, rule).unwrap().denoise(&x, at).unwrap();
        assert!(largest(&(wrapped - rule.apply(&x * 2.0).unwrap())) == 0.0);
    }
}

#[test]
fn percentiles_out_of_range_are_refused() {
    for percentile in [-0.1, 90.0, f64::NAN] {
        let rule = Threshold::Dynamic { percentile };
        let message = Thresholded::new(Double, rule).unwrap_err().to_string();
        assert!(message.contains("percentile: expected a number from 0 to 1"), "{message}");
        assert!(rule.apply(random(7, &[2, 3], Kind::Float)).is_err());
    }
}
