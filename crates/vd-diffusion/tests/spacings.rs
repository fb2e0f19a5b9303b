//! Which noise levels a grid visits.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::{Flow, cosine};
use vd_diffusion::{CosineDiscrete, Schedule, Spacing};

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
    // t = 1, 3/4, 1/2, 1/4: halves go to the noisier entry.
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
        (Spacing::UniformLogSnr.grid(&Flow, 4), "a finite log-SNR at both ends"),
        (explicit.grid(&cosine(), 3), "4 times for 3 steps"),
        (Spacing::Explicit { t: vec![1.1, 0.0] }.grid(&cosine(), 1), "from 0 to 1, got 1.1"),
    ] {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}
