//! One Brownian path per sample: sums, order of questions, batches, variance.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use vd_tensor_ops::tch::{Device, Kind, Tensor};
use vd_tensor_ops::{BrownianNoise, Noise, SeededNoise};

fn like(shape: &[i64]) -> Tensor {
    Tensor::empty(shape, (Kind::Double, Device::Cpu))
}

/// The path's way from one time to another.
fn way(noise: &mut BrownianNoise, from: f64, to: f64, like: &Tensor) -> Tensor {
    noise.between(from, to, like) * (to - from).abs().sqrt()
}

fn largest(x: &Tensor) -> f64 {
    x.abs().max().double_value(&[])
}

fn times(seed: u64, n: i64) -> Vec<f64> {
    // log-SNR spread over the range of the usual schedules and somewhat beyond.
    let log_snr = SeededNoise::new(seed, 0).uniform(&like(&[n])) * 50.0 - 25.0;
    Vec::<f64>::try_from(log_snr.exp()).unwrap()
}

#[test]
fn parts_of_an_interval_sum_to_the_whole() {
    let like = like(&[2, 3]);
    for seed in 0..20 {
        let noise = &mut BrownianNoise::new(seed, 0);
        let mut times = times(seed, 12);
        times.extend([0.0, 1e-30, 1e25, 1.0]);
        times.sort_by(f64::total_cmp);
        let parts = times.windows(2).map(|t| way(noise, t[0], t[1], &like));
        let sum = parts.fold(like.zeros_like(), |sum, part| sum + part);
        let whole = way(noise, 0.0, 1e25, &like);
        // Rounding, relative to the widest part.
        assert!(largest(&(sum - &whole)) < 1e-12 * 1e25f64.sqrt());

        // Among times of ordinary size the tolerance is theirs.
        let (a, b, c) = (times[4], times[7], times[11]);
        let halves = way(noise, a, b, &like) + way(noise, b, c, &like);
        let miss = largest(&(halves - way(noise, a, c, &like)));
        assert!(miss < 1e-13 * c.sqrt(), "{a} {b} {c}: {miss}");
    }
}

#[test]
fn the_order_of_the_questions_does_not_matter() {
    let like = like(&[2, 4]);
    let mut times = times(1, 9);
    times.sort_by(f64::total_cmp);
    let ask = |order: &[usize]| {
        let noise = &mut BrownianNoise::new(3, 0);
        let mut answers: Vec<_> =
            order.iter().map(|&i| (i, noise.between(times[i], times[i + 1], &like))).collect();
        answers.sort_by_key(|(i, _)| *i);
        answers.into_iter().map(|(_, x)| x).collect::<Vec<_>>()
    };
    let forward = ask(&[0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(forward, ask(&[7, 6, 5, 4, 3, 2, 1, 0]));
    assert_eq!(forward, ask(&[4, 0, 6, 2, 1, 7, 5, 3]));
    // The way back is the way there, turned round.
    let noise = &mut BrownianNoise::new(3, 0);
    assert_eq!(noise.between(times[3], times[2], &like), -&forward[2]);
}

#[test]
fn a_sample_has_its_path_in_any_batch() {
    let (mut whole, mut tail) = (BrownianNoise::new(7, 0), BrownianNoise::new(7, 2));
    for pair in times(2, 8).windows(2) {
        let all = whole.between(pair[0], pair[1], &like(&[5, 3, 7]));
        let part = tail.between(pair[0], pair[1], &like(&[2, 3, 7]));
        assert_eq!(all.narrow(0, 2, 2), part);
        // What is kept of a question does not leak into a batch of another shape.
        let other = whole.between(pair[1], pair[0], &like(&[3, 35]));
        assert_eq!(other, BrownianNoise::new(7, 0).between(pair[1], pair[0], &like(&[3, 35])));
    }
}

#[test]
fn samples_and_seeds_have_paths_of_their_own() {
    let path = |seed, first| BrownianNoise::new(seed, first).between(0.5, 2.0, &like(&[1, 1000]));
    let correlation = |a: &Tensor, b: &Tensor| (a * b).mean(Kind::Double).double_value(&[]);
    let a = path(1, 0);
    for b in [path(2, 0), path(1, 1)] {
        // Four standard errors of 1000 products of independent unit normals.
        assert!(correlation(&a, &b).abs() < 4.0 / 1000f64.sqrt());
    }
}

#[test]
fn a_new_path_is_independent_of_those_before_and_the_same_on_every_object() {
    let like = like(&[1, 1000]);
    let paths = || {
        let mut noise = BrownianNoise::new(1, 0);
        [0; 3].map(|_| {
            noise.new_path();
            noise.between(0.5, 2.0, &like)
        })
    };
    let [a, b, c] = paths();
    for (x, y) in [(&a, &b), (&b, &c), (&a, &c)] {
        let correlation = (x * y).mean(Kind::Double).double_value(&[]);
        assert!(correlation.abs() < 4.0 / 1000f64.sqrt(), "{correlation}");
    }
    assert_eq!([a, b, c], paths());
    // Other draws go on where they were.
    let (mut tree, mut plain) = (BrownianNoise::new(5, 3), SeededNoise::new(5, 3));
    let _ = (tree.normal(&like), plain.normal(&like));
    tree.new_path();
    assert_eq!(tree.normal(&like), plain.normal(&like));
}

/// Four standard errors of the variance of n unit normals.
fn tolerance(n: i64) -> f64 {
    4.0 * (2.0 / n as f64).sqrt()
}

#[test]
fn an_interval_has_unit_variance_however_narrow() {
    let n = 20_000;
    let like = like(&[1, n]);
    let pairs = [
        (0.0, 1e-30),
        (0.0, 1.0),
        (1e-25, 1e-24),
        (2e-9, 3e-9),
        (0.3, 0.7),
        (1.0, 1e9),
        (1e24, 1e26),
        (1e30, 1e31),
        (0.5, f64::INFINITY),
        // Within one leaf, down to a tenth of a billionth of it.
        (0.7, 0.7 * (1.0 + 1e-5)),
        (0.7, 0.7 * (1.0 + 1e-9)),
        (0.7, 0.7 * (1.0 + 1e-14)),
        (1e-21, 2e-21),
        // Across the border of two leaves.
        (1.0 - 1e-9, 1.0 + 1e-9),
        (1.0, 1.0),
    ];
    for (i, (from, to)) in pairs.into_iter().enumerate() {
        for depth in [1, 5, BrownianNoise::DEPTH] {
            let mut noise = BrownianNoise::new(i as u64, 0).with_depth(depth).unwrap();
            let x = noise.between(from, to, &like);
            let mean = x.mean(Kind::Double).double_value(&[]);
            let variance = x.square().mean(Kind::Double).double_value(&[]);
            assert!(mean.abs() < 4.0 / (n as f64).sqrt(), "{from} to {to}: mean {mean}");
            assert!((variance - 1.0).abs() < tolerance(n), "{from} to {to}: variance {variance}");
        }
    }
}

#[test]
fn intervals_that_do_not_overlap_are_independent() {
    let n = 20_000;
    let like = like(&[1, n]);
    let noise = &mut BrownianNoise::new(11, 0);
    // Even in log-SNR, as fine as a thousand steps over the paper's range.
    let grid: Vec<f64> = (0..8).map(|i| (0.04 * f64::from(i) - 1.0).exp()).collect();
    let parts: Vec<_> = grid.windows(2).map(|t| noise.between(t[0], t[1], &like)).collect();
    for (i, a) in parts.iter().enumerate() {
        for b in &parts[i + 1..] {
            let correlation = (a * b).mean(Kind::Double).double_value(&[]);
            assert!(correlation.abs() < 4.0 / (n as f64).sqrt(), "{correlation}");
        }
    }
}

#[test]
fn other_draws_are_those_of_seeded_noise() {
    let (mut tree, mut plain) = (BrownianNoise::new(5, 3), SeededNoise::new(5, 3));
    let like = like(&[2, 5]);
    for _ in 0..3 {
        assert_eq!(tree.normal(&like), plain.normal(&like));
        let _ = tree.between(0.1, 0.2, &like);
        assert_eq!(tree.uniform(&like), plain.uniform(&like));
    }
}

#[test]
fn answers_follow_kind_and_shape() {
    let mut noise = BrownianNoise::new(1, 0);
    for kind in [Kind::Float, Kind::Double, Kind::BFloat16] {
        for shape in [&[][..], &[0, 3], &[2, 0], &[2, 3, 1]] {
            let x = noise.between(0.5, 1.0, &Tensor::empty(shape, (kind, Device::Cpu)));
            assert_eq!((x.size().as_slice(), x.kind()), (shape, kind));
        }
    }
}

#[test]
fn a_deeper_tree_has_the_same_path_at_the_nodes_of_both() {
    let like = like(&[2, 3]);
    let at = |depth| {
        let mut noise = BrownianNoise::new(4, 0).with_depth(depth).unwrap();
        // Powers of 2 are the ends of the seventh bisection.
        [(0.5, 1.0), (1.0, 8.0)].map(|(from, to)| noise.between(from, to, &like))
    };
    assert_eq!(at(7), at(20));
    assert_ne!(at(6), at(20));
}

#[test]
fn a_depth_out_of_range_is_refused() {
    for depth in [0, 49] {
        let error = BrownianNoise::new(1, 0).with_depth(depth).unwrap_err().to_string();
        assert!(error.contains("1 to 48") && error.contains(&depth.to_string()), "{error}");
    }
}
