//! The law of the training times.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{cosine, values};
use vd_diffusion::TimeSampling::{self, Stratified, Uniform};
use vd_diffusion::{CosineDiscrete, Schedule, SeededNoise};

fn draw(how: TimeSampling, schedule: &dyn Schedule, b: i64, seed: u64, first: u64) -> Vec<f64> {
    values(&how.draw(schedule, b, &mut SeededNoise::new(seed, first)).unwrap())
}

/// Chi-squared of counts that should all be the same.
fn chi_squared(counts: &[f64]) -> f64 {
    let mean = counts.iter().sum::<f64>() / counts.len() as f64;
    counts.iter().map(|c| (c - mean).powi(2) / mean).sum()
}

#[test]
fn every_samples_own_time_is_uniform() {
    let table = CosineDiscrete::new(20).unwrap();
    let continuous = cosine();
    for how in [Uniform, Stratified] {
        for schedule in [&table as &dyn Schedule, &continuous] {
            let mut counts = [[0.0; 20]; 3];
            for seed in 0..4000 {
                for (k, t) in draw(how, schedule, 3, seed, 0).iter().enumerate() {
                    assert!(*t > 0.0 && *t <= 1.0);
                    counts[k][(t * 20.0).ceil() as usize - 1] += 1.0;
                }
            }
            for counts in counts {
                // 19 degrees of freedom: 50.8 is passed once in 10,000.
                assert!(chi_squared(&counts) < 50.8, "{how:?}: {counts:?}");
            }
        }
    }
}

#[test]
fn times_of_a_table_are_its_entries() {
    let table = CosineDiscrete::new(1000).unwrap();
    for how in [Uniform, Stratified] {
        for t in draw(how, &table, 500, 1, 0) {
            let entry = table.time_input(t);
            assert!(entry == entry.round() && (0.0..1000.0).contains(&entry));
            assert_eq!(t, (entry + 1.0) / 1000.0);
        }
    }
}

#[test]
fn stratified_times_are_evenly_spread() {
    for seed in 0..20 {
        let mut times = draw(Stratified, &cosine(), 8, seed, 0);
        times.sort_by(f64::total_cmp);
        for pair in times.windows(2) {
            assert!((pair[1] - pair[0] - 0.125).abs() < 1e-12);
        }
    }
}

#[test]
fn uniform_times_do_not_depend_on_the_batch() {
    let all = draw(Uniform, &cosine(), 5, 3, 0);
    assert_eq!(all[2..], draw(Uniform, &cosine(), 3, 3, 2));
    assert_eq!(all, draw(Uniform, &cosine(), 5, 3, 0));
    assert_eq!(draw(Stratified, &cosine(), 5, 3, 0), draw(Stratified, &cosine(), 5, 3, 0));
}
