//! The distribution of the training times.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{cosine, random, values};
use vd_diffusion::TimeSampling::{self, Stratified, Uniform};
use vd_diffusion::tch::Kind;
use vd_diffusion::{
    Cond, CosineDiscrete, Diffusion, DiffusionConfig, FrameTimes, LossRequest, Parameterization,
    Schedule, ScheduleConfig, SeededNoise, TimeInput,
};

fn draw(how: TimeSampling, schedule: &dyn Schedule, b: i64, seed: u64, first: u64) -> Vec<f64> {
    values(&how.draw(schedule, b, &mut SeededNoise::new(seed, first)).unwrap())
}

/// Chi-squared of counts that should be equal.
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
                // 19 degrees of freedom: 50.8 is exceeded once in 10,000.
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

const N: i64 = 40_000;

/// Mean and variance of `values` compared with exact ones, within four standard errors; `fourth` is
/// the exact fourth central moment.
fn check_moments(values: &[f64], mean: f64, variance: f64, fourth: f64) {
    let n = values.len() as f64;
    let got = values.iter().sum::<f64>() / n;
    assert!((got - mean).abs() < 4.0 * (variance / n).sqrt(), "mean {got} for {mean}");
    let got = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    let error = ((fourth - variance * variance) / n).sqrt();
    assert!((got - variance).abs() < 4.0 * error, "variance {got} for {variance}");
}

#[test]
fn log_normal_times_are_normal_in_log_sigma() {
    for (mean, std) in [(-1.2, 1.2), (0.4, 0.8)] {
        let how = TimeSampling::LogNormal { mean, std };
        // The straight line has every log-SNR: nothing is clipped.
        let times = draw(how, &known::Flow, N, 1, 0);
        assert!(times.iter().all(|t| *t > 0.0 && *t <= 1.0));
        let log_sigma: Vec<f64> =
            times.iter().map(|t| -known::Flow.at(*t).half_log_snr()).collect();
        check_moments(&log_sigma, mean, std * std, 3.0 * f64::powi(std, 4));
    }
}

#[test]
fn log_normal_times_are_clipped_to_the_schedule() {
    let narrow = vd_diffusion::Cosine::new(-2.0, 2.0, vd_diffusion::TimeInput::T1000).unwrap();
    let how = TimeSampling::LogNormal { mean: 0.0, std: 2.0 };
    let times = draw(how, &narrow, N, 2, 0);
    // Moved to one end: the fraction of a normal distribution beyond half a standard deviation.
    let share = 0.308_537_538_725_987;
    let bound = 4.0 * (share * (1.0 - share) / N as f64).sqrt();
    for end in [0.0, 1.0] {
        let got = times.iter().filter(|t| (*t - end).abs() < 1e-12).count() as f64 / N as f64;
        assert!((got - share).abs() < bound, "{got}");
    }
    let table = CosineDiscrete::new(10).unwrap();
    for t in draw(TimeSampling::LogNormal { mean: -9.0, std: 1.0 }, &table, 50, 3, 0) {
        assert_eq!(t, 0.1);
    }
}

/// The end of a schedule is an ordinary level, whereas t = 0 would mean a context frame.
#[test]
fn no_law_draws_a_clean_frame() {
    let time_input = TimeInput::T1000;
    let schedule = ScheduleConfig::Cosine { log_snr_min: -3.0, log_snr_max: 3.0, time_input };
    for times in [
        Uniform,
        Stratified,
        TimeSampling::LogNormal { mean: -1.2, std: 1.2 },
        TimeSampling::LogNormal { mean: -900.0, std: 1.0 },
        TimeSampling::LogitNormal { mean: -900.0, std: 1.0 },
        TimeSampling::Mode { scale: -1.0 },
    ] {
        for schedule in [schedule.clone(), ScheduleConfig::flow(), ScheduleConfig::edm()] {
            let config = DiffusionConfig {
                schedule,
                times,
                frame_times: FrameTimes::Independent,
                parameterization: Parameterization::V,
                ..Default::default()
            };
            let diffusion = Diffusion::new(&config).unwrap();
            let x0 = random(1, &[4, 1, 128, 1, 1], Kind::Double);
            let noise = &mut SeededNoise::new(2, 0);
            let (toy, request) = (known::Toy::default(), LossRequest::default());
            let loss = diffusion.loss(&toy, &x0, &Cond::none(), request, noise).unwrap();
            assert_eq!(values(&loss.counts), [1.0; 512], "{config:?}");
            assert!(values(&loss.t).iter().all(|t| *t > 0.0 && *t <= 1.0));
            assert!(values(&loss.log_snr).iter().all(|l| l.is_finite()));
            assert!(loss.mean.double_value(&[]).is_finite());
        }
    }
}

#[test]
fn logit_normal_times_are_normal_in_their_logit() {
    for (mean, std) in [(0.0, 1.0), (-0.5, 0.6)] {
        let times = draw(TimeSampling::LogitNormal { mean, std }, &cosine(), N, 4, 0);
        let logits: Vec<f64> = times.iter().map(|t| (t / (1.0 - t)).ln()).collect();
        check_moments(&logits, mean, std * std, 3.0 * f64::powi(std, 4));
    }
}

/// The mean is 1/2 at any scale (the distribution is symmetric), the variance that of (1 - u) - s
/// (u - 1/2 + cos(pi u) / 2), integrated by hand.
#[test]
fn mode_times_have_the_moments_of_their_law() {
    use std::f64::consts::PI;
    for scale in [-1.0, -0.5, 0.0, 0.81, 1.29, 2.0 / (PI - 2.0)] {
        let times = draw(TimeSampling::Mode { scale }, &cosine(), N, 5, 0);
        assert!(times.iter().all(|t| *t > 0.0 && *t <= 1.0));
        let cross = -1.0 / 12.0 + 1.0 / (PI * PI);
        let square = 5.0 / 24.0 - 2.0 / (PI * PI);
        let variance = 1.0 / 12.0 - 2.0 * scale * cross + scale * scale * square;
        // The fourth moment by the midpoint rule.
        let t = |u: f64| 1.0 - u - scale * ((PI * u / 2.0).cos().powi(2) - 1.0 + u);
        let each = (0..10_000).map(|k| (t((k as f64 + 0.5) / 1e4) - 0.5).powi(4));
        check_moments(&times, 0.5, variance, each.sum::<f64>() / 1e4);
    }
}

#[test]
fn every_law_rounds_to_the_entries_of_a_table() {
    let table = CosineDiscrete::new(50).unwrap();
    for how in [
        TimeSampling::LogNormal { mean: -1.2, std: 1.2 },
        TimeSampling::LogitNormal { mean: 0.0, std: 1.0 },
        TimeSampling::Mode { scale: 1.29 },
    ] {
        for t in draw(how, &table, 500, 6, 0) {
            let entry = table.time_input(t);
            assert!(entry == entry.round() && (0.0..50.0).contains(&entry), "{how:?}: {t}");
        }
        assert_eq!(draw(how, &table, 5, 3, 0)[2..], draw(how, &table, 3, 3, 2));
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    for (times, part) in [
        (TimeSampling::LogNormal { mean: f64::NAN, std: 1.0 }, "times log-normal: mean"),
        (TimeSampling::LogNormal { mean: 0.0, std: 0.0 }, "times log-normal: std"),
        (TimeSampling::LogitNormal { mean: f64::INFINITY, std: 1.0 }, "times logit-normal: mean"),
        (TimeSampling::LogitNormal { mean: 0.0, std: -1.0 }, "times logit-normal: std"),
        (TimeSampling::Mode { scale: 1.8 }, "times mode: scale"),
        (TimeSampling::Mode { scale: -1.1 }, "times mode: scale"),
    ] {
        let config = DiffusionConfig { times, ..Default::default() };
        let message = Diffusion::new(&config).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}
