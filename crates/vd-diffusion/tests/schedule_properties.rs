//! Properties of every schedule with any settings, and of every grid over it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use vd_diffusion::{NoiseLevel, ScheduleConfig, Spacing, TimeInput};

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Holder {
    of: ScheduleConfig,
}

fn any_schedule() -> impl Strategy<Value = ScheduleConfig> {
    let bounds = (-40.0..40.0f64, -40.0..40.0f64).prop_filter_map("apart", |(a, b)| {
        let time_input = TimeInput::T1000;
        let (log_snr_min, log_snr_max) = (a.min(b), a.max(b));
        let apart = log_snr_max - log_snr_min > 0.1;
        apart.then_some(ScheduleConfig::Cosine { log_snr_min, log_snr_max, time_input })
    });
    let betas = (prop::collection::vec(1e-4..0.9f64, 2..40), any::<bool>(), any::<bool>());
    let betas = betas.prop_map(|(mut values, end, zero_terminal_snr)| {
        if end {
            *values.last_mut().unwrap() = 1.0;
        }
        ScheduleConfig::Betas { values, zero_terminal_snr }
    });
    let cosine = (2..1200usize, any::<bool>()).prop_map(|(steps, zero_terminal_snr)| {
        ScheduleConfig::CosineDiscrete { steps, zero_terminal_snr }
    });
    let named = (2..1200usize, 1e-5..0.1f64, 1e-5..0.1f64, any::<bool>(), 0..3);
    let named =
        named.prop_map(|(steps, beta_first, beta_last, zero_terminal_snr, which)| match which {
            0 => ScheduleConfig::Linear { steps, beta_first, beta_last, zero_terminal_snr },
            1 => ScheduleConfig::ScaledLinear { steps, beta_first, beta_last, zero_terminal_snr },
            _ => ScheduleConfig::Sigmoid { steps, beta_first, beta_last, zero_terminal_snr },
        });
    let edm = (-13.0..13.0f64, 0.01..10.0f64).prop_map(|(low, up)| ScheduleConfig::Edm {
        sigma_min: low.exp(),
        sigma_max: (low + up).exp().min(1e6),
    });
    let flow = (-6.9..6.9f64).prop_map(|s| ScheduleConfig::Flow { shift: s.exp() });
    let one = prop_oneof![cosine, bounds, betas, named, edm, flow];
    (one, prop::option::of(-20.0..20.0f64))
        .prop_map(|(one, shift)| shift.map_or(one.clone(), |by| one.shifted(by)))
}

/// The quantity that is 1 at every level of this schedule.
fn kept(config: &ScheduleConfig, at: NoiseLevel) -> f64 {
    match config {
        ScheduleConfig::Shifted { of, .. } => kept(of, at),
        ScheduleConfig::Edm { .. } => at.alpha,
        ScheduleConfig::Flow { .. } => at.alpha + at.sigma,
        _ => at.alpha.hypot(at.sigma),
    }
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
    fn levels_are_finite_and_keep_what_they_must(config in any_schedule(), t in 0.0..=1.0f64) {
        let schedule = config.build().unwrap();
        for t in [0.0, t, 1.0] {
            let at = schedule.at(t);
            prop_assert_eq!(at.t, t);
            prop_assert!(at.alpha.is_finite() && at.alpha >= 0.0);
            prop_assert!(at.sigma.is_finite() && at.sigma >= 0.0);
            prop_assert!((kept(&config, at) - 1.0).abs() < 1e-12, "{:?}", at);
        }
    }

    #[test]
    fn configs_survive_toml(of in any_schedule()) {
        let config = Holder { of };
        let text = toml::to_string(&config).unwrap();
        prop_assert_eq!(toml::from_str::<Holder>(&text).unwrap(), config);
    }

    #[test]
    fn a_grid_falls_or_is_refused_for_want_of_entries(
        config in any_schedule(),
        steps in 1..60usize,
        rho in 1.0..50.0f64,
    ) {
        let schedule = config.build().unwrap();
        for spacing in Spacing::all().into_iter().chain([Spacing::Karras { rho }]) {
            match spacing.grid(schedule.as_ref(), steps) {
                Ok(grid) => {
                    prop_assert_eq!(grid.len(), steps + 1);
                    let falls = |pair: &[NoiseLevel]| pair[0].log_snr() < pair[1].log_snr();
                    prop_assert!(grid.windows(2).all(falls), "{:?}: {:?}", spacing, grid);
                    prop_assert_eq!(grid[steps], schedule.at(0.0));
                }
                Err(error) => {
                    let message = error.to_string();
                    prop_assert!(message.contains("expected at most"), "{}", message);
                    // The ends may be neighbours in a table of two.
                    let enough = schedule.steps().is_none_or(|n| n > 2 && steps <= n);
                    prop_assert!(!enough, "{:?}: {}", spacing, message);
                }
            }
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
