//! Schedules: known values, and what must hold of each.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use proptest::prelude::*;
use vd_diffusion::{
    BetaTable, Cosine, CosineDiscrete, Schedule, ScheduleConfig, TimeInput, betas_from_f32,
};

fn near(got: f64, expected: f64, relative: f64) {
    assert!((got - expected).abs() <= relative * expected.abs(), "{got} for {expected}");
}

#[test]
fn the_continuous_cosine_has_the_log_snrs_of_the_paper() {
    let schedule = known::cosine();
    let known = [
        (0.0, 20.0),
        (0.1, 3.68499),
        (0.25, 1.762619),
        (0.5, 0.0),
        (0.75, -1.762619),
        (1.0, -20.0),
    ];
    for (t, log_snr) in known {
        // Half a digit of the last place that is given.
        assert!((schedule.at(t).log_snr() - log_snr).abs() < 5.1e-6, "t = {t}");
    }
    near(schedule.at(1.0).alpha, 4.53999e-5, 2e-6);
}

/// Entry, product of the alphas: from `cosine_beta_schedule` of video-diffusion-pytorch 0.7.0.
const TABLE_20: [(usize, f64); 5] = [
    (0, 0.9920072786842186),
    (1, 0.972092737113969),
    (9, 0.49384359044063775),
    (18, 0.00605964462145117),
    (19, 6.059644621450503e-07),
];
const TABLE_1000: [(usize, f64); 5] = [
    (0, 0.999958715775178),
    (1, 0.9999125759273678),
    (499, 0.49384359044063775),
    (998, 2.428766907034852e-06),
    (999, 2.428766907034584e-10),
];

#[test]
fn the_discrete_cosine_has_the_entries_of_video_diffusion_pytorch() {
    for (n, table) in [(20, TABLE_20), (1000, TABLE_1000)] {
        let schedule = CosineDiscrete::new(n).unwrap();
        for (i, alpha_bar) in table {
            let at = schedule.at((i + 1) as f64 / n as f64);
            // A thousand products, each rounded, of factors that end at 1 - 0.9999.
            near(at.alpha * at.alpha, alpha_bar, 1e-11);
            near(at.sigma * at.sigma, 1.0 - alpha_bar, 1e-11);
            assert_eq!(schedule.time_input(at.t), i as f64);
        }
    }
}

#[test]
fn time_inputs_of_a_table_are_whole_numbers() {
    for n in [1, 7, 20, 49, 1000, 999_983] {
        let schedule = CosineDiscrete::new(n).unwrap();
        for i in (0..n).step_by(1 + n / 100) {
            assert_eq!(schedule.time_input((i + 1) as f64 / n as f64), i as f64);
        }
    }
}

#[test]
fn the_continuous_cosine_tells_the_time_as_it_is_asked_to() {
    let steps = Cosine::new(-20.0, 20.0, TimeInput::T1000).unwrap();
    let log_snr = Cosine::new(-20.0, 20.0, TimeInput::LogSnr).unwrap();
    assert_eq!(steps.time_input(0.25), 250.0);
    near(log_snr.time_input(0.25), 1.762619, 1e-6);
    assert_eq!(steps.steps(), None);
}

#[test]
fn a_table_is_clean_at_zero_and_may_end_without_signal() {
    let table = BetaTable::new(&[0.1, 0.5, 1.0]).unwrap();
    let (clean, noise) = (table.at(0.0), table.at(1.0));
    assert_eq!((clean.alpha, clean.sigma), (1.0, 0.0));
    assert_eq!((noise.alpha, noise.sigma), (0.0, 1.0));
    assert_eq!((table.t_at(f64::INFINITY), table.t_at(f64::NEG_INFINITY)), (0.0, 1.0));
    let between = table.at(0.9);
    assert!(between.alpha > 0.0 && (table.t_at(between.log_snr()) - 0.9).abs() < 1e-12);
}

#[test]
fn betas_kept_in_f32_give_the_table_they_came_from() {
    let schedule = CosineDiscrete::new(50).unwrap();
    let entry = |i: usize| schedule.at(i as f64 / 50.0).alpha.powi(2);
    let stored: Vec<f32> = (0..50).map(|i| (1.0 - entry(i + 1) / entry(i)) as f32).collect();
    let read = BetaTable::new(&betas_from_f32(&stored)).unwrap();
    for i in 1..=50 {
        let (got, expected) = (read.at(i as f64 / 50.0), schedule.at(i as f64 / 50.0));
        // 50 betas below 0.93, each off by 3e-8, but for the last, which is exact.
        near(got.alpha, expected.alpha, 2e-6);
        near(got.sigma, expected.sigma, 2e-6);
    }
    near(betas_from_f32(&[0.9999])[0], 0.9999, 1e-16);
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let text = |config: ScheduleConfig| config.build().unwrap_err().to_string();
    let bounds = |log_snr_min, log_snr_max| ScheduleConfig::Cosine {
        log_snr_min,
        log_snr_max,
        time_input: TimeInput::T1000,
    };
    let betas = |values: &[f64]| ScheduleConfig::betas(values.to_vec());
    for (message, parts) in [
        (text(ScheduleConfig::cosine_discrete(0)), ["steps", "1 to 1000000", "got 0"]),
        (text(bounds(f64::NAN, 20.0)), ["log_snr_min", "-40 to 40", "got NaN"]),
        (text(bounds(-20.0, f64::INFINITY)), ["log_snr_max", "-40 to 40", "got inf"]),
        (text(bounds(5.0, 5.0)), ["log_snr_max", "more than log_snr_min = 5", "got 5"]),
        (text(betas(&[])), ["betas", "at least one", "none"]),
        (text(betas(&[0.1, 0.0])), ["values[1] of 2", "more than 0", "got 0"]),
        (text(betas(&[1.0, 0.1])), ["values[0] of 2", "less than 1", "got 1"]),
        (text(betas(&[0.1, f64::NAN])), ["values[1] of 2", "more than 0", "got NaN"]),
        (text(betas(&[0.5, 1e-300])), ["values[1] of 2", "log-SNR", "got 0.000"]),
    ] {
        assert!(parts.iter().all(|part| message.contains(part)), "{message}: {parts:?}");
    }
}

fn any_schedule() -> impl Strategy<Value = ScheduleConfig> {
    let bounds = (-40.0..40.0f64, -40.0..40.0f64).prop_filter_map("apart", |(a, b)| {
        let time_input = TimeInput::T1000;
        let (log_snr_min, log_snr_max) = (a.min(b), a.max(b));
        let apart = log_snr_max - log_snr_min > 0.1;
        apart.then_some(ScheduleConfig::Cosine { log_snr_min, log_snr_max, time_input })
    });
    let betas = (prop::collection::vec(1e-4..0.9f64, 2..40), any::<bool>()).prop_map(|(v, end)| {
        let mut values = v;
        if end {
            *values.last_mut().unwrap() = 1.0;
        }
        ScheduleConfig::betas(values)
    });
    prop_oneof![
        (1..1200usize).prop_map(|steps| ScheduleConfig::cosine_discrete(steps)),
        bounds,
        betas,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn log_snr_is_finite_and_falls(config in any_schedule(), a in 1e-6..1.0f64, b in 1e-6..1.0f64) {
        let schedule = config.build().unwrap();
        let (early, late) = (a.min(b), a.max(b));
        prop_assume!(late - early > 1e-6 && late < 1.0 - 1e-6);
        let (clean, noisy) = (schedule.at(early).log_snr(), schedule.at(late).log_snr());
        prop_assert!(clean.is_finite() && noisy.is_finite());
        prop_assert!(clean > noisy, "{clean} at {early}, {noisy} at {late}");
    }

    #[test]
    fn t_at_inverts_log_snr(config in any_schedule(), t in 1e-6..1.0f64) {
        let schedule = config.build().unwrap();
        prop_assume!(t < 1.0 - 1e-6);
        let at = schedule.at(t);
        let back = schedule.t_at(at.log_snr());
        prop_assert!((back - t).abs() < 1e-9, "{back} for {t}");
        let again = schedule.at_log_snr(at.log_snr());
        prop_assert!((again.log_snr() - at.log_snr()).abs() < 1e-6 * (1.0 + at.log_snr().abs()));
    }

    #[test]
    fn both_ends_are_finite_and_preserve_variance(config in any_schedule(), t in 0.0..=1.0f64) {
        let schedule = config.build().unwrap();
        for t in [0.0, t, 1.0] {
            let at = schedule.at(t);
            prop_assert_eq!(at.t, t);
            prop_assert!(at.alpha.is_finite() && at.alpha >= 0.0);
            prop_assert!(at.sigma.is_finite() && at.sigma >= 0.0);
            prop_assert!((at.alpha.hypot(at.sigma) - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn t_at_stays_in_range(config in any_schedule(), log_snr in -1e3..1e3f64) {
        let schedule = config.build().unwrap();
        for log_snr in [log_snr, f64::INFINITY, f64::NEG_INFINITY] {
            prop_assert!((0.0..=1.0).contains(&schedule.t_at(log_snr)));
        }
    }
}
