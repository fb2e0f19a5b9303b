//! The noise levels visited by a grid.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::cosine;
use vd_diffusion::{CosineDiscrete, Edm, Error, Flow, Schedule, ScheduleConfig, Spacing};

#[test]
fn spacing_over_a_table_visits_its_entries() {
    let schedule = CosineDiscrete::new(10).unwrap();
    let entries = |steps| -> Vec<f64> {
        let grid = Spacing::UniformT.grid(&schedule, steps).unwrap();
        assert_eq!(grid.len(), steps + 1);
        assert_eq!(grid[steps].sigma, 0.0);
        grid.iter().map(|at| schedule.time_input(at.t)).collect()
    };
    assert_eq!(entries(10), [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0, -1.0]);
    assert_eq!(entries(5), [9.0, 7.0, 5.0, 3.0, 1.0, -1.0]);
    // t = 1, 3/4, 1/2, 1/4: halves are rounded to the noisier entry.
    assert_eq!(entries(4), [9.0, 7.0, 4.0, 2.0, -1.0]);
    assert_eq!(entries(3), [9.0, 6.0, 2.0, -1.0]);
    assert_eq!(entries(1), [9.0, -1.0]);
    let message = Spacing::UniformT.grid(&schedule, 11).unwrap_err().to_string();
    assert!(message.contains("at most 10") && message.contains("got 11"), "{message}");
    for n in [1, 2, 13, 50] {
        let schedule = CosineDiscrete::new(n).unwrap();
        for steps in 1..=n {
            let grid = Spacing::UniformT.grid(&schedule, steps).unwrap();
            assert!(grid.windows(2).all(|pair| pair[0].t > pair[1].t), "{steps} of {n}");
            assert_eq!(schedule.time_input(grid[0].t), (n - 1) as f64);
        }
    }
}

#[test]
fn spacing_over_a_continuous_schedule_is_even() {
    let times = |spacing: Spacing, steps| -> Vec<f64> {
        spacing.grid(&cosine(), steps).unwrap().iter().map(|at| at.t).collect()
    };
    assert_eq!(times(Spacing::UniformT, 4), [1.0, 0.75, 0.5, 0.25, 0.0]);
    let explicit = Spacing::Explicit { t: vec![0.9, 0.2, 0.1] };
    assert_eq!(times(explicit.clone(), 2), [0.9, 0.2, 0.1]);
    let grid = Spacing::UniformLogSnr.grid(&cosine(), 8).unwrap();
    for (i, at) in grid.iter().enumerate() {
        assert!((at.log_snr() - (-20.0 + 5.0 * i as f64)).abs() < 1e-9);
    }
    for (result, part) in [
        (Spacing::UniformT.grid(&cosine(), 0), "at least 1, got 0"),
        (Spacing::Karras { rho: 0.5 }.grid(&cosine(), 4), "karras: rho: expected a number from 1"),
        (
            Spacing::Explicit { t: vec![0.4, 0.4] }.grid(&cosine(), 1),
            "explicit of 1 steps: expected less",
        ),
        (explicit.grid(&cosine(), 3), "4 times for 3 steps"),
        (Spacing::Explicit { t: vec![1.1, 0.0] }.grid(&cosine(), 1), "from 0 to 1, got 1.1"),
    ] {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

/// Schedules of every family, with every kind of end.
fn schedules() -> Vec<(ScheduleConfig, Box<dyn Schedule>)> {
    let table = |values: &[f64], zero_terminal_snr| ScheduleConfig::Betas {
        values: values.to_vec(),
        zero_terminal_snr,
    };
    let mut configs = ScheduleConfig::all();
    configs.extend([
        ScheduleConfig::CosineDiscrete { steps: 1000, zero_terminal_snr: true },
        ScheduleConfig::cosine_discrete(20),
        table(&[0.3; 25], true),
        ScheduleConfig::Flow { shift: 3.0 },
    ]);
    let shifted = configs.clone().into_iter().map(|config| config.shifted(-2.8));
    let mut configs: Vec<_> = configs.iter().cloned().chain(shifted).collect();
    configs.extend([table(&[0.9], false), table(&[0.5, 0.9], true), table(&[0.2, 0.3, 0.9], true)]);
    configs.into_iter().map(|config| (config.clone(), config.build().unwrap())).collect()
}

/// Whether a grid with this number of steps is impossible.
fn impossible(spacing: &Spacing, schedule: &dyn Schedule, steps: usize) -> bool {
    let Some(n) = schedule.steps() else { return false };
    match spacing {
        Spacing::UniformLogSnr | Spacing::Exponential | Spacing::Karras { .. } => {
            // A single entry of finite log-SNR, plus the ends.
            let no_signal = usize::from(schedule.at(1.0).alpha == 0.0);
            n - no_signal == 1 && steps > 1 + no_signal
        }
        _ => steps > n,
    }
}

#[test]
fn every_spacing_runs_on_every_schedule() {
    let mut refused = 0;
    for (config, schedule) in schedules() {
        for spacing in Spacing::all() {
            for steps in [1, 2, 3, 20] {
                let of = format!("{} of {steps} on {config:?}", spacing.name());
                let grid = spacing.grid(schedule.as_ref(), steps);
                if impossible(&spacing, schedule.as_ref(), steps) {
                    let message = grid.unwrap_err().to_string();
                    assert!(message.contains("sampling steps: expected at most"), "{message}");
                    refused += 1;
                    continue;
                }
                let grid = grid.unwrap_or_else(|error| panic!("{of}: {error}"));
                assert_eq!(grid.len(), steps + 1, "{of}");
                for pair in grid.windows(2) {
                    assert!(pair[0].log_snr() < pair[1].log_snr(), "{of}: {pair:?}");
                    assert!(pair[0].t > pair[1].t, "{of}: {pair:?}");
                }
                // Each level lies on the schedule, and only the ends have infinite log-SNR.
                assert!(grid.iter().all(|at| *at == schedule.at(at.t)), "{of}");
                assert!(grid[1..steps].iter().all(|at| at.log_snr().is_finite()), "{of}");
                assert_eq!(grid[steps], schedule.at(0.0), "{of}");
                if !matches!(spacing, Spacing::Leading | Spacing::Linspace) {
                    assert_eq!(grid[0], schedule.at(1.0), "{of}");
                }
            }
        }
    }
    // Of 1 entry: all at three sizes. Of 2, one with signal: all at two. Of 3: the four that visit
    // entries at one.
    assert_eq!(refused, 7 * 3 + 7 * 2 + 4);
}

#[test]
fn levels_between_the_ends_may_outnumber_the_entries() {
    let table = CosineDiscrete::new(10).unwrap();
    for spacing in [Spacing::karras(), Spacing::Exponential, Spacing::UniformLogSnr] {
        assert_eq!(spacing.grid(&table, 300).unwrap().len(), 301);
    }
    for spacing in [Spacing::Trailing, Spacing::Leading, Spacing::Linspace] {
        let message = spacing.grid(&table, 11).unwrap_err().to_string();
        assert!(message.contains("at most 10") && message.contains("got 11"), "{message}");
    }
}

#[test]
fn ends_of_infinite_log_snr_lend_their_neighbours() {
    let flow = Flow::new(1.0).unwrap();
    let times = |spacing: &Spacing, schedule: &dyn Schedule, steps| -> Vec<f64> {
        let grid = spacing.grid(schedule, steps).unwrap();
        grid.iter().map(|at| (at.t * 1e9).round() / 1e9).collect()
    };
    for spacing in [Spacing::karras(), Spacing::Exponential, Spacing::UniformLogSnr] {
        assert_eq!(times(&spacing, &flow, 1), [1.0, 0.0]);
        assert_eq!(times(&spacing, &flow, 3), [1.0, 0.999, 0.001, 0.0]);
        let edm = Edm::new(0.01, 50.0).unwrap();
        assert_eq!(times(&spacing, &edm, 2), [1.0, 0.001, 0.0]);
        let table = CosineDiscrete::new(10).unwrap();
        assert_eq!(times(&spacing, &table, 2), [1.0, 0.1, 0.0]);
        assert_eq!(times(&spacing, &cosine(), 1), [1.0, 0.0]);
    }
    assert_eq!(times(&Spacing::Exponential, &flow, 2), [1.0, 0.5, 0.0]);
}

#[test]
fn exponential_is_even_in_the_logarithm_of_the_noise() {
    let edm = Edm::new(0.002, 80.0).unwrap();
    let grid = Spacing::Exponential.grid(&edm, 9).unwrap();
    assert_eq!(grid, Spacing::UniformLogSnr.grid(&edm, 9).unwrap());
    for (i, at) in grid[..9].iter().enumerate() {
        let sigma = 80.0 * (0.002f64 / 80.0).powf(i as f64 / 8.0);
        assert!((at.sigma / sigma - 1.0).abs() < 1e-12, "{} for {sigma}", at.sigma);
    }
}

#[test]
fn entries_of_a_continuous_schedule_are_those_of_a_table_of_a_thousand() {
    let times = |spacing: Spacing, steps| -> Vec<f64> {
        let grid = spacing.grid(&cosine(), steps).unwrap();
        grid.iter().map(|at| (at.t * 1e9).round() / 1e9).collect()
    };
    assert_eq!(times(Spacing::Trailing, 4), [1.0, 0.75, 0.5, 0.25, 0.0]);
    assert_eq!(times(Spacing::Leading, 4), [0.751, 0.501, 0.251, 0.001, 0.0]);
    assert_eq!(times(Spacing::Linspace, 4), [1.0, 0.667, 0.334, 0.001, 0.0]);
    for spacing in [Spacing::Trailing, Spacing::Leading, Spacing::Linspace] {
        assert_eq!(times(spacing, 3000).len(), 3001);
    }
}

#[test]
fn spacings_survive_toml_by_their_names() {
    for spacing in Spacing::all() {
        let name = spacing.name();
        assert_eq!(read(&format!("\"{name}\"")).unwrap(), spacing);
        assert_eq!(read(&format!("{{ kind = \"{name}\" }}")).unwrap(), spacing);
        let written = toml::to_string(&Holder { of: spacing.clone() }).unwrap();
        assert_eq!(toml::from_str::<Holder>(&written).unwrap().of, spacing);
    }
    assert_eq!(read("{ kind = \"karras\", rho = 5.0 }").unwrap(), Spacing::Karras { rho: 5.0 });
    let explicit = read("{ kind = \"explicit\", t = [0.5, 0.0] }").unwrap();
    assert_eq!(
        (explicit.name(), format!("{explicit:?}")),
        ("explicit", "Explicit { t: [0.5, 0.0] }".into())
    );
    assert!(read("{ kind = \"trailing\", rho = 5.0 }").is_err());
    let error = Spacing::Explicit { t: vec![0.0, 0.5] }.grid(&cosine(), 1).unwrap_err();
    assert!(matches!(error, Error::Grid(_)), "{error}");
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Holder {
    of: Spacing,
}

fn read(text: &str) -> Result<Spacing, toml::de::Error> {
    toml::from_str::<Holder>(&format!("of = {text}")).map(|holder| holder.of)
}
