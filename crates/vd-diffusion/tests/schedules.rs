//! Schedules: known values, and refused settings.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use vd_diffusion::{
    BetaTable, Cosine, CosineDiscrete, Edm, Flow, NoiseLevel, Schedule, ScheduleConfig, Shifted,
    TimeInput, betas_from_f32,
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
        // Half a unit in the last digit given.
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
            // A thousand rounded products of factors that end at 1 - 0.9999.
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
        // 50 betas below 0.93, each off by 3e-8, except the last, which is exact.
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
    let table = |steps, beta_first, beta_last| ScheduleConfig::Linear {
        steps,
        beta_first,
        beta_last,
        zero_terminal_snr: true,
    };
    let edm = |sigma_min, sigma_max| ScheduleConfig::Edm { sigma_min, sigma_max };
    let shifted = ScheduleConfig::shifted;
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
        (text(table(0, 0.1, 0.2)), ["linear: steps", "1 to 1000000", "got 0"]),
        (text(table(9, 0.0, 0.2)), ["linear: beta_first", "a number from", "got 0"]),
        (text(table(9, 0.1, 1.0)), ["linear: beta_last", "a number from", "got 1"]),
        (text(table(1, 0.1, 0.2)), ["zero_terminal_snr", "at least two", "got 1"]),
        (text(edm(0.0, 80.0)), ["edm: sigma_min", "0.000001 to", "got 0"]),
        (text(edm(2.0, 2.0)), ["edm: sigma_max", "more than sigma_min = 2", "got 2"]),
        (text(ScheduleConfig::Flow { shift: 0.0 }), ["flow: shift", "0.001 to 1000", "got 0"]),
        (text(shifted(ScheduleConfig::flow(), f64::NAN)), ["log_snr_shift", "-20 to 20", "NaN"]),
        (text(shifted(edm(3.0, 1.0), 1.0)), ["edm: sigma_max", "sigma_min = 3", "got 1"]),
    ] {
        assert!(parts.iter().all(|part| message.contains(part)), "{message}: {parts:?}");
    }
}

#[test]
fn edm_runs_from_sigma_min_to_sigma_max_and_is_clean_at_zero() {
    let edm = Edm::new(0.002, 80.0).unwrap();
    assert_eq!((edm.at(0.0).alpha, edm.at(0.0).sigma), (1.0, 0.0));
    near(edm.at(1e-3).sigma, 0.002, 1e-13);
    near(edm.at(1.0).sigma, 80.0, 1e-13);
    // 250 ln(sigma): 1000 times c_noise of the paper's table 1.
    near(edm.time_input(1.0), 250.0 * 80f64.ln(), 1e-13);
    // The time input of a clean frame is a valid embedding input.
    near(edm.time_input(0.0), 250.0 * 0.002f64.ln(), 1e-13);
    assert_eq!((edm.t_at(f64::INFINITY), edm.t_at(f64::NEG_INFINITY)), (0.0, 1.0));
}

#[test]
fn times_outside_are_those_of_the_nearest_end() {
    let betas = ScheduleConfig::betas(vec![0.1, 0.3, 1.0]);
    let configs = ScheduleConfig::all().into_iter().chain([betas]);
    for config in configs.flat_map(|config| [config.clone().shifted(-1.0), config]) {
        let schedule = config.build().unwrap();
        for (outside, end) in [(-1e-9, 0.0), (-0.5, 0.0), (1.0 + 1e-9, 1.0), (1.5, 1.0)] {
            assert_eq!(schedule.at(outside), schedule.at(end), "{config:?} at {outside}");
            assert_eq!(schedule.time_input(outside), schedule.time_input(end), "{config:?}");
        }
        let at = schedule.at(f64::NAN);
        assert!(at.t.is_nan() && at.sigma.is_nan(), "{config:?}: {at:?}");
    }
}

#[test]
fn the_shift_of_flow_is_that_of_diffusers() {
    // FlowMatchEulerDiscreteScheduler(shift=3.0) of diffusers 0.42, in f32: place, sigma, timestep.
    let known = [
        (0, 1.0, 1000.0),
        (1, 0.9996663928031921, 999.6663818359375),
        (250, 0.8999999761581421, 900.0),
        (998, 0.005976095795631409, 5.976095676422119),
        (999, 0.002994012087583542, 2.9940121173858643),
    ];
    let flow = Flow::new(3.0).unwrap();
    for (i, sigma, told) in known {
        let t = 1.0 - f64::from(i) / 1000.0;
        // The rounding of f32, of 1 - t at the noisy end.
        near(flow.at(t).sigma, sigma, 1e-6);
        near(flow.time_input(t), told, 1e-6);
    }
}

#[test]
fn a_shift_keeps_what_its_schedule_preserves() {
    let shifted = |config: ScheduleConfig, by| config.shifted(by).build().unwrap();
    // Esser et al.: the shift of time shifts the log-SNR.
    let s = 3.0f64;
    let (ours, theirs) = (shifted(ScheduleConfig::flow(), -2.0 * s.ln()), Flow::new(s).unwrap());
    // Hoogeboom et al.: 256 pixels per side where the cosine was designed for 64.
    let cosine = shifted(ScheduleConfig::cosine(), 2.0 * (64.0 / 256.0f64).ln());
    let edm = shifted(ScheduleConfig::edm(), -2.0 * 2f64.ln());
    for i in 0..=40 {
        let t = f64::from(i) / 40.0;
        let (a, b) = (ours.at(t), theirs.at(t));
        assert!((a.alpha - b.alpha).abs() < 1e-14 && (a.sigma - b.sigma).abs() < 1e-14);
        let (a, b) = (cosine.at(t), known::cosine().at(t));
        assert!((a.log_snr() - b.log_snr() - 0.0625f64.ln()).abs() < 1e-12);
        near(a.alpha.hypot(a.sigma), 1.0, 1e-14);
        assert_eq!(cosine.time_input(t), 1000.0 * t);
        let (a, b) = (edm.at(t), Edm::new(0.002, 80.0).unwrap().at(t));
        assert_eq!(a.alpha, 1.0);
        near(a.sigma, 2.0 * b.sigma, 1e-14);
    }
    let table = Shifted::new(Box::new(CosineDiscrete::new(30).unwrap()), 1.5).unwrap();
    assert_eq!((table.steps(), table.time_input(0.5)), (Some(30), 14.0));
    // A schedule from outside whose signal and noise grow together keeps their sum of squares.
    let own = Shifted::new(Box::new(Doubled), 1.0).unwrap();
    near(own.at(0.3).alpha.hypot(own.at(0.3).sigma), 2.0, 1e-14);
}

/// Twice the paper's cosine: of no family.
#[derive(Debug)]
struct Doubled;

impl Schedule for Doubled {
    fn at(&self, t: f64) -> NoiseLevel {
        let at = known::cosine().at(t);
        NoiseLevel { t, alpha: 2.0 * at.alpha, sigma: 2.0 * at.sigma }
    }
    fn time_input(&self, t: f64) -> f64 {
        t
    }
    fn t_at(&self, log_snr: f64) -> f64 {
        known::cosine().t_at(log_snr)
    }
}

#[test]
fn configs_are_read_with_their_defaults_and_survive_toml() {
    let read = |text: &str| toml::from_str::<Holder>(&format!("of = {text}"));
    let config = |text: &str| read(text).unwrap().of;
    for (text, expected) in [
        ("\"linear\"", ScheduleConfig::linear()),
        ("\"scaled-linear\"", ScheduleConfig::scaled_linear()),
        ("\"sigmoid\"", ScheduleConfig::sigmoid()),
        ("\"edm\"", ScheduleConfig::edm()),
        ("\"flow\"", ScheduleConfig::flow()),
        ("{ kind = \"flow\", shift = 3 }", ScheduleConfig::Flow { shift: 3.0 }),
        (
            "{ kind = \"shifted\", of = \"edm\", log_snr_shift = -2 }",
            ScheduleConfig::edm().shifted(-2.0),
        ),
        (
            "{ kind = \"cosine-discrete\", zero_terminal_snr = true }",
            ScheduleConfig::CosineDiscrete { steps: 1000, zero_terminal_snr: true },
        ),
    ] {
        assert_eq!(config(text), expected, "{text}");
    }
    for (text, part) in [
        ("{ kind = \"flow\", zero_terminal_snr = true }", "unknown field `zero_terminal_snr`"),
        ("{ kind = \"shifted\", log_snr_shift = 1.0 }", "missing field `of`"),
        ("\"edn\"", "unknown variant `edn`"),
    ] {
        let message = read(text).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    let written = toml::to_string(&Holder { of: ScheduleConfig::default() }).unwrap();
    assert!(!written.contains("zero_terminal_snr"), "{written}");
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Holder {
    of: ScheduleConfig,
}
