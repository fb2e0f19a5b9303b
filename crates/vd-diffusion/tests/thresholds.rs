//! Keeping x0-hat in range.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{largest, random, values};
use vd_diffusion::tch::{Device, Kind, Tensor};
use vd_diffusion::{Denoiser, NoiseLevel, Ranges, Result, Threshold, Thresholded};

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
fn the_static_threshold_clamps_each_channel_to_its_range() {
    let x = random(8, &[2, 3, 4, 5, 6], Kind::Float) * 4.0;
    let at = NoiseLevel { t: 0.5, alpha: 0.8, sigma: 0.6 };
    let each = vec![[-1.0, 1.0], [-0.25, 3.5], [f64::NEG_INFINITY, f64::INFINITY]];
    let ranges = Ranges::new(each.clone()).unwrap();
    let run = |rule, ranges| {
        let denoiser = Thresholded::new(Double, rule).unwrap().with_ranges(Some(ranges));
        denoiser.denoise(&x, at).unwrap()
    };
    let got = run(Threshold::Static, ranges.clone());
    for (c, [low, high]) in each.into_iter().enumerate() {
        let expected = (&x * 2.0).select(1, c as i64).clamp(low, high);
        assert_eq!(got.select(1, c as i64), expected);
    }
    let alike = run(Threshold::Static, Ranges::new(vec![[-1.0, 1.0]; 3]).unwrap());
    assert_eq!(alike, (&x * 2.0).clamp(-1.0, 1.0));
    // the others do not know of ranges
    assert_eq!(run(Threshold::None, ranges.clone()), &x * 2.0);
    let dynamic = Threshold::dynamic().apply(&x * 2.0).unwrap();
    assert_eq!(run(Threshold::dynamic(), ranges.clone()), dynamic);
    // a gradient passes where nothing is clamped
    let leaf = x.copy().set_requires_grad(true);
    ranges.clamp(&(&leaf * 2.0)).unwrap().sum(Kind::Float).backward();
    let inside = got.eq_tensor(&(&x * 2.0)).to_kind(Kind::Float) * 2.0;
    assert_eq!(leaf.grad(), inside);

    let message = ranges.clamp(&x.narrow(1, 0, 2)).unwrap_err().to_string();
    assert!(message.contains("3 channels") && message.contains("[2, 2, 4, 5, 6]"), "{message}");
    for wrong in [vec![], vec![[1.0, 0.5]], vec![[f64::NAN, 1.0]], vec![[f64::INFINITY; 2]]] {
        assert!(Ranges::new(wrong).is_err());
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
