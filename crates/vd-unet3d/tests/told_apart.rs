//! What a conditioning input affects: its sample, and only its frame where frames are independent.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../vd-tensor-ops/tests/oracle/mod.rs"]
mod oracle;
mod small;

use oracle::draw::cases;
use oracle::{array, relative};
use proptest::prelude::*;
use small::{
    Scene, ask, bits, build, levels, mix, mixes, scene, told, with_cond, with_given, with_some_null,
};
use tch::{Kind, Tensor};
use vd_unet3d::ops::torch::testing::device;
use vd_unet3d::{Cond, FrameMask, Given, Tokens};

/// Tolerance for two orders of the same sums through the whole network in f64: measured below
/// 1e-14.
const SAME: f64 = 1e-13;

const SIZE: [i64; 4] = [3, 3, 4, 6];

/// The conditioning of `one`, but in the marked rows that of `other`.
fn mixed(rows: &Tensor, one: &Cond, other: &Cond) -> Cond {
    let mut cond = one.shallow_clone();
    cond.pooled = cond.pooled.map(|own| mix(rows, other.pooled.as_ref().unwrap(), &own));
    cond.tokens = cond.tokens.map(|own| {
        let new = other.tokens.as_ref().unwrap();
        Tokens {
            values: mix(rows, &new.values, &own.values),
            weight: mix(rows, &new.weight, &own.weight),
        }
    });
    for (name, given) in &mut cond.signals {
        given.value = mix(rows, &other.signals[name].value, &given.value);
    }
    cond
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn what_one_sample_is_told_reaches_no_other(
        config in mixes(), draws: u64, per_frame: bool, of in 0i64..3,
    ) {
        let (net, _) = build(&config, Kind::Float, draws);
        let base = scene(&config, Kind::Float, draws, SIZE);
        let tell = |seed| told(&config, Kind::Float, seed, SIZE, per_frame);
        let one = with_some_null(&tell(draws), 3, draws >> 5);
        let changed = mixed(&bits(3, 1 << of), &one, &tell(draws ^ 77));
        let [before, after] = [one, changed].map(|cond| ask(&net, &with_cond(&base, cond)));
        for k in (0..3).filter(|k| *k != of) {
            prop_assert_eq!(before.get(k), after.get(k), "sample {}", k);
        }
    }

    #[test]
    fn a_sample_hears_what_it_is_told(config in mixes(), seed: u64, of in 0i64..3) {
        let (net, _) = build(&config, Kind::Float, seed);
        let base = scene(&config, Kind::Float, seed, SIZE);
        let before = ask(&net, &base);
        let other = told(&config, Kind::Float, seed ^ 78, SIZE, false);
        let mut tried = Vec::new();
        for name in config.signals.keys().filter(|name| *name != "weather") {
            let value = other.signals[name].value.shallow_clone();
            tried.push(with_given(&base.cond, name, Given::new(value)));
        }
        if config.signals.contains_key("weather") {
            let value = (&base.cond.signals["weather"].value + 1i64).remainder(3i64);
            tried.push(with_given(&base.cond, "weather", Given::new(value)));
        }
        if config.tokens.is_some() {
            let text = Cond { tokens: other.tokens, ..base.cond.shallow_clone() };
            tried.push(text);
        }
        for cond in tried {
            let after = ask(&net, &with_cond(&base, cond));
            prop_assert_ne!(before.get(of), after.get(of));
        }
    }

    #[test]
    fn a_sample_is_told_alone_what_it_is_told_in_a_batch(
        config in mixes(), draws: u64, per_frame: bool,
    ) {
        let (net, _) = build(&config, Kind::Double, draws);
        let base = scene(&config, Kind::Double, draws, SIZE);
        let cond = told(&config, Kind::Double, draws, SIZE, per_frame);
        let all = with_cond(&base, with_some_null(&cond, 3, draws >> 7));
        let together = ask(&net, &all);
        for k in 0..3 {
            let row = |t: &Tensor| t.narrow(0, k, 1);
            let cond = all.cond.rows(k, 1).unwrap();
            let alone = Scene { x: row(&all.x), t: row(&all.t), cond, frames: FrameMask::All };
            let error = relative(&ask(&net, &alone), &array(&row(&together)));
            prop_assert!(error <= SAME, "sample {k}: {error:e}");
        }
    }

    #[test]
    fn a_frame_that_is_alone_is_told_alone(config in mixes(), draws: u64, images: bool) {
        let (net, _) = build(&config, Kind::Double, draws);
        let mut base = scene(&config, Kind::Double, draws, SIZE);
        base.t = levels(draws, &[3, 3]);
        base.frames = if images {
            FrameMask::ClipAndImages { clip: 1 }
        } else {
            FrameMask::Focus(Tensor::from_slice(&[true; 3]).to_device(device()))
        };
        let cond = told(&config, Kind::Double, draws, SIZE, true);
        let base = with_cond(&base, with_some_null(&cond, 3, draws >> 3));
        let together = ask(&net, &base);
        for i in 0..3 {
            let mut cond = base.cond.shallow_clone();
            let frame = |x: &Tensor| x.narrow(1, i, 1);
            cond.pooled = cond.pooled.map(|x| if x.dim() == 3 { frame(&x) } else { x });
            if let Some(tokens) = &mut cond.tokens {
                tokens.weight = frame(&tokens.weight);
            }
            for given in cond.signals.values_mut() {
                let axis = if given.value.dim() == 5 { 2 } else { 1 };
                given.value = given.value.narrow(axis, i, 1);
            }
            let x = base.x.narrow(2, i, 1);
            let alone = Scene { x, t: frame(&base.t), cond, frames: FrameMask::All };
            let error = relative(&ask(&net, &alone), &array(&together.narrow(2, i, 1)));
            prop_assert!(error <= SAME, "frame {i}: {error:e}");
        }
    }
}
