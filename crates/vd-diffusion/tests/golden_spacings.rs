//! Our spacings on our schedules compared with the time steps and levels of diffusers 0.42.0.
//!
//! golden/diffusers.py wrote the fixtures and documents their content. diffusers keeps 1 - beta in
//! f32, which loses precision where beta is small: the log-SNR of the first entry is off by 1.7e-4
//! on the linear table, 2.6e-5 on the scaled one, 5.3e-4 on the cosine. This explains the
//! differences here.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use vd_diffusion::{
    BetaTable, Ddim, DpmPp2m, Edm, Flow, LineWeight, Lms, NoiseLevel, Sampler, Schedule, Spacing,
    UniPc,
};

#[path = "../../vd-unet3d/tests/common/mod.rs"]
mod common;
#[path = "golden/fixture.rs"]
mod fixture;

use fixture::{Run, betas, runs, schedule};

fn spacing(name: &str) -> Spacing {
    match name {
        "leading" => Spacing::Leading,
        "trailing" => Spacing::Trailing,
        "linspace" => Spacing::Linspace,
        "karras" => Spacing::karras(),
        "exponential" => Spacing::Exponential,
        _ => unreachable!("no spacing {name}"),
    }
}

/// The largest difference of alpha and of sigma, relative for values above 1.
fn gap(ours: &[NoiseLevel], theirs: &[NoiseLevel]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let gap = |(a, b): (&NoiseLevel, &NoiseLevel)| {
        f64::max((a.alpha - b.alpha).abs(), (a.sigma - b.sigma).abs() / b.sigma.max(1.0))
    };
    ours.iter().zip(theirs).map(gap).fold(0.0, f64::max)
}

/// The network's time inputs, except that of the clean end.
fn times(schedule: &dyn Schedule, grid: &[NoiseLevel]) -> Vec<f64> {
    grid[..grid.len() - 1].iter().map(|at| schedule.time_input(at.t)).collect()
}

/// A table whose 1 - beta was rounded to f32.
fn lossy(table: &str) -> BetaTable {
    let lossy = betas(table).into_iter().map(|beta| 1.0 - f64::from(1.0 - beta as f32));
    BetaTable::new(&lossy.collect::<Vec<_>>()).unwrap()
}

/// The largest difference of two lists.
fn apart(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// With `steps_offset = 0`; 1, as in latent-diffusion pipelines, would add 1 to the entries of
/// leading.
#[test]
fn single_step_schedulers_visit_the_same_entries() {
    for name in ["ddpm-small", "ddim-0", "euler", "euler-ancestral", "lms"] {
        let rounds = name.starts_with("dd");
        let of = |run: &Run| {
            matches!(&*run.spacing, "leading" | "trailing") || rounds && run.spacing == "linspace"
        };
        for run in runs(name).iter().filter(|run| of(run)) {
            let schedule = schedule(&run.table);
            let grid = spacing(&run.spacing).grid(&*schedule, run.steps).unwrap();
            assert_eq!(times(&*schedule, &grid), run.times, "{name} {}", run.name());
            let gap = gap(&grid, &run.levels);
            assert!(gap < 2e-6, "{name} {}: {gap:e}", run.name());
        }
    }
}

/// DDIM rounds an even spacing to entries; Euler and similar schedulers interpolate sigma between
/// them. Ours rounds.
#[test]
fn linspace_of_the_sigma_schedulers_lies_between_entries() {
    for run in runs("euler").iter().filter(|run| run.spacing == "linspace") {
        let schedule = schedule(&run.table);
        let grid = Spacing::Linspace.grid(&*schedule, run.steps).unwrap();
        let apart = apart(&times(&*schedule, &grid), &run.times);
        assert!((0.4..=0.5).contains(&apart), "{}: {apart}", run.name());
    }
}

/// They count one step more and omit the one from the last visited entry to clean.
#[test]
fn multistep_schedulers_visit_the_entries_of_one_step_more() {
    for name in ["dpmpp-2m", "dpmpp-3m-sde", "unipc-3-bh2", "deis-3"] {
        for run in runs(name) {
            let schedule = schedule(&run.table);
            let grid = match &*run.spacing {
                "trailing" => Spacing::Trailing.grid(&*schedule, run.steps).unwrap(),
                "leading" | "linspace" => {
                    let mut grid = spacing(&run.spacing).grid(&*schedule, run.steps + 1).unwrap();
                    grid.remove(run.steps);
                    grid
                }
                _ => continue,
            };
            assert_eq!(times(&*schedule, &grid), run.times, "{name} {}", run.name());
            // DEIS ends at the first entry, not at clean.
            let gap = gap(&grid[..run.steps], &run.levels[..run.steps]);
            assert!(gap < 2e-6, "{name} {}: {gap:e}", run.name());
        }
    }
}

/// Between the ends of a table with the same loss of precision they agree; between those of ours
/// they differ as much as the ends do. Multistep schedulers round the times to integers.
#[test]
fn karras_and_exponential_lie_between_the_same_ends() {
    for (name, whole) in [("euler", 0.01), ("lms", 0.01), ("dpmpp-2m", 1.0), ("unipc-2-bh2", 1.0)] {
        let of = |run: &Run| matches!(&*run.spacing, "karras" | "exponential");
        for run in runs(name).iter().filter(|run| of(run)) {
            let lossy = lossy(&run.table);
            let grid = spacing(&run.spacing).grid(&lossy, run.steps).unwrap();
            let off = gap(&grid, &run.levels);
            assert!(off < 2e-6, "{name} {}: {off:e}", run.name());
            let apart = apart(&times(&lossy, &grid), &run.times);
            assert!(apart <= whole, "{name} {}: {apart}", run.name());
            let grid = spacing(&run.spacing).grid(&*schedule(&run.table), run.steps).unwrap();
            let off = gap(&grid, &run.levels);
            assert!(off < 1e-4, "{name} {}: {off:e}", run.name());
        }
    }
}

/// In 20 steps LCM rounds to every 20th entry, on which it was distilled; ours has no such list.
#[test]
fn the_consistency_steps_are_trailing_ones() {
    for run in runs("lcm") {
        let schedule = schedule(&run.table);
        let grid = Spacing::Trailing.grid(&*schedule, run.steps).unwrap();
        let apart = apart(&times(&*schedule, &grid), &run.times);
        let most = if run.steps == 20 { 10.0 } else { 0.0 };
        assert_eq!(apart, most, "{}", run.name());
    }
}

/// With a shift the flow schedulers shift the last level twice: once as the end of the range, then
/// with every level.
#[test]
fn flow_schedulers_are_linspace_but_for_a_second_shift_of_the_end() {
    for name in ["flow-euler", "flow-heun"] {
        for run in runs(name) {
            let shift = if run.spacing == "shift-1" { 1.0 } else { 3.0 };
            let flow = Flow::new(shift).unwrap();
            let grid = Spacing::Linspace.grid(&flow, run.steps).unwrap();
            let (once, twice) = (flow.at(1e-3).sigma, flow.at(flow.at(1e-3).sigma).sigma);
            let [.., ours, _] = grid[..] else { unreachable!("two levels at least") };
            let [.., theirs, _] = run.levels[..] else { unreachable!("two levels at least") };
            assert!((ours.sigma - once).abs() < 1e-12);
            assert!((theirs.sigma - twice).abs() < 1e-6, "{}", run.name());
            let even =
                |i: usize| 1.0 + (flow.at(1e-3).sigma - 1.0) * i as f64 / (run.steps - 1) as f64;
            let shifted = (0..run.steps).map(|i| flow.at(even(i))).chain([flow.at(0.0)]);
            let gap = gap(&shifted.collect::<Vec<_>>(), &run.levels);
            assert!(gap < 1e-6, "{name} {}: {gap:e}", run.name());
        }
    }
    // UniPC shifts once, counts one step more, and subtracts 1e-6 from sigma = 1.
    for run in runs("unipc-2-flow") {
        let shift = if run.spacing == "shift-1" { 1.0 } else { 3.0 };
        let mut grid = Spacing::Linspace.grid(&Flow::new(shift).unwrap(), run.steps + 1).unwrap();
        grid.remove(run.steps);
        let gap = gap(&grid, &run.levels);
        assert!(gap < 1.1e-6, "{}: {gap:e}", run.name());
    }
}

#[test]
fn the_sigmas_of_edm() {
    let edm = Edm::new(0.002, 80.0).unwrap();
    for name in ["euler-edm", "dpmpp-2m-edm"] {
        for run in runs(name) {
            let grid = spacing(&run.spacing).grid(&edm, run.steps).unwrap();
            let gap = gap(&grid, &run.levels);
            assert!(gap < 2e-6, "{name} {}: {gap:e}", run.name());
            // Their time input is ln(sigma) / 4, ours 1000 times that.
            let times: Vec<f64> = times(&edm, &grid).iter().map(|time| time / 1000.0).collect();
            assert!(apart(&times, &run.times) < 1e-5, "{name} {}", run.name());
        }
    }
}

/// Sampling on levels of our own. Karras and exponential levels depend on the first entry of the
/// table: with its f32 rounding all levels agree, without it the difference is 1.5e-5 on the linear
/// table, 1.2e-4 on the cosine.
#[test]
fn whole_runs_on_our_own_levels_end_in_the_same_samples() {
    let samplers: [(&str, &dyn Sampler); 5] = [
        ("ddim-1", &Ddim { eta: 1.0 }),
        ("euler", &Ddim { eta: 0.0 }),
        ("lms", &Lms { order: 4 }),
        ("dpmpp-2m", &DpmPp2m::new(0.0)),
        ("unipc-3-bh2", &UniPc { order: 3, line: LineWeight::Bh2 }),
    ];
    for (name, sampler) in samplers {
        for run in runs(name) {
            let multistep = matches!(name, "dpmpp-2m" | "unipc-3-bh2");
            if run.spacing == "linspace" || run.spacing == "leading" && multistep {
                continue;
            }
            let (exact, lossy) = (schedule(&run.table), lossy(&run.table));
            let between_ends = matches!(&*run.spacing, "karras" | "exponential");
            let off = if between_ends { 1.5e-4 } else { 2e-6 };
            for (schedule, most) in [(&*exact, off), (&lossy as &dyn Schedule, 2e-6)] {
                let grid = spacing(&run.spacing).grid(schedule, run.steps).unwrap();
                for off in run.sampled(sampler, &grid) {
                    let most = run.allowed() + most;
                    assert!(off.raw <= most, "{name} {}: {off:?} > {most:e}", run.name());
                }
            }
        }
    }
}
