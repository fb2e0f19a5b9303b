//! Dropout: how much it drops, on what a mask depends, and on what it does not.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod oracle;

use oracle::draw::{cases, normal};
use proptest::prelude::*;
use tch::{Kind, Tensor};
use vd_tensor_ops::kernels::cpu::{DropMask, Isa, drop_out};
use vd_tensor_ops::kernels::{Precision, with};
use vd_tensor_ops::layers::{Dropout, DropoutSeeds};
use vd_tensor_ops::{Params, SeededNoise};

/// What stays of ones, and whether it does.
fn kept(rate: f64, site: u64, seeds: &[u64], size: &[i64]) -> Tensor {
    let ones = Tensor::ones(size, (Kind::Float, tch::Device::Cpu));
    let out = Dropout::new(rate, site).unwrap().forward(&ones, Some(&DropoutSeeds::new(seeds)));
    out.gt(0.0).to_kind(Kind::Double)
}

fn mean(x: &Tensor) -> f64 {
    x.mean(Kind::Double).double_value(&[])
}

/// A correlation within five standard errors of 0.
fn are_independent(a: &Tensor, b: &Tensor) -> bool {
    let [a, b] = [a, b].map(|t| t.flatten(0, -1) - mean(t));
    let n = a.numel() as f64;
    let of = |x: &Tensor, y: &Tensor| (x * y).sum(Kind::Double).double_value(&[]);
    (of(&a, &b) / (of(&a, &a) * of(&b, &b)).sqrt()).abs() < 5.0 / n.sqrt()
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn the_rate_is_dropped_and_the_rest_keeps_the_mean(
        rate in prop_oneof![Just(0.1), Just(0.5), 0.01..0.99f64], seed: u64, site: u64,
    ) {
        let size = [2, 3, 20, 20, 16];
        let seeds = [seed, seed.wrapping_add(1)];
        let n = 38_400f64;
        for sample in 0..2 {
            let stays = mean(&kept(rate, site, &seeds, &size).get(sample));
            // Five standard errors of a share.
            let allowed = 5.0 * (rate * (1.0 - rate) / (n / 2.0)).sqrt();
            prop_assert!((stays - (1.0 - rate)).abs() < allowed, "{stays} stay at {rate}");
        }
        for kind in [Kind::Double, Kind::Float] {
            let x = normal(seed, &size).to_kind(kind);
            let y = Dropout::new(rate, site).unwrap().forward(&x, Some(&DropoutSeeds::new(&seeds)));
            let expected = &x * kept(rate, site, &seeds, &size).to_kind(kind) * (1.0 / (1.0 - rate));
            let apart = (&y - &expected).abs().max().double_value(&[]);
            let largest = expected.abs().max().double_value(&[]);
            // The factor and the product are rounded once each.
            let u = if kind == Kind::Double { 4.0 * f64::EPSILON } else { 4.0 * oracle::U32 };
            prop_assert!(y.kind() == kind && apart <= u * largest);
        }
    }

    #[test]
    fn samples_sites_frames_and_seeds_are_independent(seed: u64, site: u64, bit in 0u32..64) {
        let size = [2, 2, 16, 16, 32];
        // Numbers that differ in one bit, as counters do.
        let near = |n: u64| n ^ (1 << bit);
        let first = kept(0.5, site, &[seed, near(seed)], &size);
        let other = kept(0.5, near(site), &[seed, near(seed)], &size);
        let part = |t: &Tensor, b: i64, f: i64| t.get(b).get(f);
        let all = [
            part(&first, 0, 0), part(&first, 0, 1), part(&first, 1, 0), part(&first, 1, 1),
            part(&other, 0, 0), part(&other, 1, 1),
        ];
        for (i, a) in all.iter().enumerate() {
            for b in &all[i + 1..] {
                prop_assert!(are_independent(a, b));
            }
            // Neighbours across, down, and in channels.
            for axis in [0, 1, 2] {
                let n = a.size()[axis as usize];
                let (from, to) = (a.narrow(axis, 0, n - 1), a.narrow(axis, 1, n - 1));
                prop_assert!(are_independent(&from, &to), "axis {axis}");
            }
        }
    }

    #[test]
    fn a_mask_does_not_depend_on_the_batch_the_other_frames_the_threads_or_the_road(
        (b, f, h, w, c) in (1i64..4, 1i64..4, 1i64..5, 1i64..6, 1i64..20), seed: u64, site: u64,
    ) {
        let x = normal(seed, &[b, f, h, w, c]).to_kind(Kind::Float);
        let seeds = DropoutSeeds::draw(&mut SeededNoise::new(seed, 0), b).unwrap();
        let layer = Dropout::new(0.3, site).unwrap();
        let whole = layer.forward(&x, Some(&seeds));
        prop_assert_eq!(&layer.forward(&x, Some(&seeds)), &whole);
        for k in 0..b {
            let alone = DropoutSeeds::draw(&mut SeededNoise::new(seed, k as u64), 1).unwrap();
            prop_assert_eq!(alone.as_slice(), &seeds.as_slice()[k as usize..][..1]);
            let part = x.narrow(0, k, 1).narrow(1, 0, (f + 1) / 2);
            let got = layer.forward(&part, Some(&alone));
            prop_assert_eq!(got, whole.narrow(0, k, 1).narrow(1, 0, (f + 1) / 2));
        }
        let plain = with(Precision::Reference, || layer.forward(&x, Some(&seeds)));
        prop_assert_eq!(&plain, &whole);
        let strided = x.permute([0, 1, 4, 2, 3]).contiguous().permute([0, 1, 3, 4, 2]);
        prop_assert_eq!(&layer.forward(&strided, Some(&seeds)), &whole);
        let before = vd_tensor_ops::torch::threads();
        for threads in [1, 3] {
            vd_tensor_ops::torch::set_threads(threads);
            let got = layer.forward(&x, Some(&seeds));
            vd_tensor_ops::torch::set_threads(before);
            prop_assert_eq!(got, whole.shallow_clone());
        }
        let mask = DropMask { seeds: seeds.as_slice().into(), site, rate: 0.3, gain: 1.0 / 0.7 };
        for isa in Isa::tested() {
            prop_assert_eq!(&drop_out(isa, &x, &mask), &whole, "{}", isa);
        }
    }

    #[test]
    fn the_gradient_goes_where_values_have_stayed(seed: u64, site: u64) {
        for kind in [Kind::Double, Kind::Float] {
            let x = normal(seed, &[2, 3, 4, 5, 6]).to_kind(kind).set_requires_grad(true);
            let seeds = DropoutSeeds::new(&[seed, site]);
            let layer = Dropout::new(0.4, site).unwrap();
            let y = layer.forward(&x, Some(&seeds));
            let weights = normal(seed ^ 1, &x.size()).to_kind(kind);
            let value = (y * &weights).sum(kind);
            let gradient = Tensor::run_backward(&[value], &[&x], false, false).remove(0);
            prop_assert_eq!(gradient, layer.forward(&weights, Some(&seeds)));
        }
    }
}

#[test]
fn nothing_happens_without_seeds_or_at_a_rate_of_0() {
    let x = normal(1, &[2, 3, 4]);
    let seeds = DropoutSeeds::new(&[1, 2]);
    let same = |y: &Tensor| y.data_ptr() == x.data_ptr();
    assert!(same(&Dropout::new(0.5, 3).unwrap().forward(&x, None)));
    assert!(same(&Dropout::new(0.0, 3).unwrap().forward(&x, Some(&seeds))));
}

#[test]
fn rates_that_leave_nothing_are_refused() {
    for rate in [-0.1, 1.0, 2.0, f64::NAN, f64::INFINITY] {
        let refused = Dropout::new(rate, 0).unwrap_err().to_string();
        assert!(refused.contains("below 1") && refused.contains(&rate.to_string()), "{refused}");
    }
}

#[test]
fn places_of_a_network_have_sites_of_their_own() {
    let mut params = Params::new(0, Kind::Float, tch::Device::Cpu);
    let mut root = params.root();
    let sites = [root.sub("a").site(), root.sub("b").site(), root.sub("a.b").site(), root.site()];
    for (i, site) in sites.iter().enumerate() {
        assert!(!sites[i + 1..].contains(site));
    }
    assert_eq!(root.sub("a").sub("b").site(), sites[2]);
}

#[test]
fn every_bit_of_a_seed_is_drawn() {
    let mut noise = SeededNoise::new(5, 0);
    let drawn: Vec<u64> = (0..64)
        .flat_map(|_| DropoutSeeds::draw(&mut noise, 4).unwrap().as_slice().to_vec())
        .collect();
    let ones = |bit: u32| drawn.iter().filter(|seed| *seed >> bit & 1 == 1).count() as f64;
    // Five standard errors of 256 throws.
    assert!((0..64).all(|bit| (ones(bit) - 128.0).abs() < 5.0 * 8.0));
}
