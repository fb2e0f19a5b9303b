//! Our samplers and spacings compared with the schedulers of diffusers 0.42.0.
//!
//! golden/diffusers.py wrote the fixtures and documents their content. A sampler gets the
//! scheduler's own levels, start and noise and the same density, in f64. It must match the
//! scheduler's states within twice the deviation caused by the scheduler's f32 (and 5e-7), which
//! the script measured and which is less than 1e-4, or 1e-5 on linear tables. Where f32 causes a
//! larger deviation (DEIS of order 3 by up to 1.9e-4 in 50 steps, the cosine table at its noisy end
//! by up to 2e-3), ours must match the scheduler run in f64 within 2e-7.
//!
//! There is no counterpart here of its KDPM2Ancestral, DPMSolverSDE, SASolver and TCD, nor of the
//! schedulers specific to one model each.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ops::ControlFlow;

use vd_diffusion::{
    Ancestral, Boundary, Ddim, Deis, Dpm2, DpmPp2m, DpmPp2s, DpmPp3m, Heun, Ipndm, LastSteps, Lcm,
    Line, LineWeight, Lms, Pndm, Sampler, SamplerFacts, StepTaken, UniPc, invert, sample,
};

#[path = "../../vd-unet3d/tests/common/mod.rs"]
mod common;
#[path = "golden/faults.rs"]
mod faults;
#[path = "golden/fixture.rs"]
mod fixture;

use faults::{MeanOfV, NoiseOnClean, WrongSign};
use fixture::{Off, Run, Silent, runs, schedulers};

/// Ours matches theirs in the runs that `in_runs` selects, at the steps that `at` selects; there
/// must be some.
fn agrees_at(
    name: &str,
    sampler: &dyn Sampler,
    in_runs: impl Fn(&Run) -> bool,
    at: impl Fn(&Run, &Off) -> bool,
) {
    let mut some = false;
    for run in runs(name).iter().filter(|run| run.is_walked() && in_runs(run)) {
        for off in run.sampled(sampler, &run.levels) {
            let picked = at(run, &off);
            some |= picked;
            assert!(!picked || off.of_allowed <= 1.0, "{name} {}: {off:?}", run.name());
        }
    }
    assert!(some, "{name}: nothing to compare");
}

/// Ours matches theirs everywhere.
fn agrees(name: &str, sampler: &dyn Sampler) {
    agrees_at(name, sampler, |_| true, |_, _| true);
}

/// The largest difference in the runs that `in_runs` selects, at the steps that `at` selects.
fn largest(
    name: &str,
    sampler: &dyn Sampler,
    in_runs: impl Fn(&Run) -> bool,
    at: impl Fn(&Run, &Off) -> bool,
) -> f64 {
    let mut largest = 0.0;
    for run in runs(name).iter().filter(|run| run.is_walked() && in_runs(run)) {
        for off in run.sampled(sampler, &run.levels).iter().filter(|off| at(run, off)) {
            largest = f64::max(largest, off.raw);
        }
    }
    largest
}

/// As in diffusers: lower orders in the last steps of runs of fewer than 15.
const LAST: LastSteps = LastSteps::FallInShortRuns;

#[test]
fn every_scheduler_that_we_name_as_the_same_is_compared() {
    let compared = schedulers("diffusers");
    for facts in SamplerFacts::ALL {
        let words = facts.diffusers.unwrap_or_default().split(|c: char| !c.is_alphanumeric());
        for named in words.filter(|word| word.ends_with("Scheduler")) {
            let found = compared.iter().any(|name| name == named);
            assert!(found, "{}: {named} has no fixture", facts.name);
        }
    }
}

#[test]
fn ddpm_with_the_small_variance() {
    agrees("ddpm-small", &Ancestral { gamma: 0.0 });
}

/// It omits the noise of the last step only if that starts from entry 0. From entry 49 (20 steps,
/// trailing) it adds the large variance to the sample, up to half of the sample's size; ours adds
/// no noise to clean data. With that emulated, both agree.
#[test]
fn ddpm_with_the_large_variance_but_for_its_noise_on_clean_samples() {
    let large = Ancestral { gamma: 1.0 };
    let trailing = |run: &Run| run.spacing == "trailing";
    agrees_at("ddpm-large", &large, |_| true, |run, off| !trailing(run) || off.step < run.steps);
    agrees_at("ddpm-large", &NoiseOnClean(large), trailing, |_, _| true);
    let off = largest("ddpm-large", &large, trailing, |_, _| true);
    assert!((0.1..1.0).contains(&off), "{off}");
}

/// With linspace it steps by N / S entries, whatever the next one is (in 20 steps, from 999 it goes
/// to 949, but is called with 946 next): there are no comparable states.
#[test]
fn ddim() {
    agrees("ddim-0", &Ddim { eta: 0.0 });
    agrees("ddim-1", &Ddim { eta: 1.0 });
    agrees("ddim-zero-snr", &Ddim { eta: 0.0 });
}

/// Its first step, from the first entry to itself, has no counterpart in ours.
#[test]
fn ddim_inversion() {
    for run in runs("ddim-inverse") {
        let mut grid = run.levels[1..].to_vec();
        grid.reverse();
        let offs = run.walked(run.levels[0], &|density, schedule, x| {
            let mut states = Vec::new();
            let mut keep = |taken: &StepTaken<'_>| {
                states.push((taken.index + 2, taken.step.x.copy()));
                ControlFlow::Continue(())
            };
            let _ = invert(density, schedule, &grid, x, &mut keep).unwrap();
            states
        });
        assert!(offs.iter().all(|off| off.of_allowed <= 1.0), "{}: {offs:?}", run.name());
    }
}

#[test]
fn euler_is_ddim() {
    agrees("euler", &Ddim { eta: 0.0 });
    agrees("euler-edm", &Ddim { eta: 0.0 });
    agrees("flow-euler", &Ddim { eta: 0.0 });
    agrees("euler-ancestral", &Ddim { eta: 1.0 });
}

#[test]
fn heun_on_both_lines() {
    agrees("heun", &Heun { line: Line::Edm, ..Heun::default() });
    agrees("flow-heun", &Heun { line: Line::Flow, ..Heun::default() });
}

#[test]
fn dpm_solver_2() {
    agrees("dpm2", &Dpm2);
}

#[test]
fn linear_multistep() {
    agrees("lms", &Lms { order: 4 });
}

/// Its single-step solver uses every second level as the midpoint, and the last step alone; on
/// levels even in log-SNR our midpoints are the same.
#[test]
fn dpm_solver_2s() {
    for run in runs("dpmpp-2s") {
        let last = run.levels.len() - 1;
        let theirs: Vec<_> = (0..last).step_by(2).chain([last]).collect();
        let grid: Vec<_> = theirs.iter().map(|i| run.levels[*i]).collect();
        let offs = run.walked(grid[0], &|density, schedule, x| {
            let mut states = Vec::new();
            let mut keep = |taken: &StepTaken<'_>| {
                states.push((theirs[taken.index + 1], taken.step.x.copy()));
                ControlFlow::Continue(())
            };
            let sampler = DpmPp2s { eta: 0.0 };
            let _ = sample(&sampler, density, schedule, &grid, x, &mut Silent, &mut keep).unwrap();
            states
        });
        // The midpoints of its levels are exact only in f32.
        assert!(offs.iter().all(|off| off.raw <= run.asked()), "{}: {offs:?}", run.name());
    }
}

#[test]
fn dpm_solver_2m_and_its_sde() {
    let flow = DpmPp2m { last: LAST, ..DpmPp2m::new(0.0) };
    let sde = DpmPp2m { last: LAST, ..DpmPp2m::new(1.0) };
    for name in ["dpmpp-2m", "dpmpp-2m-edm", "dpmpp-2m-flow"] {
        agrees(name, &flow);
    }
    agrees("dpmpp-2m-sde", &sde);
    agrees("dpmpp-2m-sde-edm", &sde);
}

/// The published form, which keeps half of the parabola's second difference.
#[test]
fn dpm_solver_3m_as_published() {
    for name in ["dpmpp-3m", "dpmpp-3m-edm", "dpmpp-3m-flow"] {
        agrees(name, &DpmPp3m::diffusers(0.0));
    }
}

/// For the third-order SDE, diffusers uses phi_3 with -1/2 where its integral has +1/2: its second
/// difference does not vanish with the step, but counts -1 too much. With that emulated, ours
/// agrees; as published it differs by up to 0.6.
#[test]
fn dpm_solver_3m_sde_but_for_a_sign() {
    let published = DpmPp3m::diffusers(1.0);
    agrees_at("dpmpp-3m-sde", &published, |_| true, |_, off| off.step < 3);
    agrees("dpmpp-3m-sde", &WrongSign(published));
    let off = largest("dpmpp-3m-sde", &published, |run| run.table == "linear", |_, _| true);
    assert!((0.1..1.0).contains(&off), "{off}");
}

/// bh1 runs to the first entry: on a step to sigma = 0 its B(h) is infinite, and the state of
/// diffusers NaN.
#[test]
fn unipc_of_both_orders_with_either_b() {
    for order in [2, 3] {
        for (name, line) in
            [("bh1", LineWeight::Bh1), ("bh2", LineWeight::Bh2), ("flow", LineWeight::Bh2)]
        {
            agrees(&format!("unipc-{order}-{name}"), &UniPc { order, line });
        }
    }
}

/// In its form without Runge-Kutta warm-up, which ours does not have.
///
/// It averages v-predictions of different levels directly, and interprets the mean at the newest
/// level; ours averages the corresponding eps-hat. With its mean ours agrees; otherwise it differs
/// by up to 0.4 in 5 steps, 3e-2 in 50.
#[test]
fn pndm_but_for_its_mean_of_v() {
    let eps = |_: &Run, off: &Off| off.prediction == "eps";
    agrees_at("pndm", &Pndm, |_| true, eps);
    agrees_at("pndm", &MeanOfV, |_| true, |run, off| !eps(run, off));
    let off = largest("pndm", &Pndm, |run| run.steps == 50, |_, _| true);
    assert!((1e-2..1e-1).contains(&off), "{off:e}");
}

/// From a level without signal (as the cosine table's last is in f32) it uses the state as eps-hat
/// and has no x0-hat; ours holds the x0-hat that v-prediction gives there.
#[test]
fn ipndm_but_for_its_step_from_no_signal() {
    let no_signal = |run: &Run| run.levels[0].alpha == 0.0;
    let ipndm = Ipndm { order: 4 };
    agrees_at("ipndm", &ipndm, |run| !no_signal(run), |_, _| true);
    let off = largest("ipndm", &ipndm, no_signal, |_, off| off.step == 1);
    assert!((1e-2..1e-1).contains(&off), "{off:e}");
}

#[test]
fn deis_of_two_orders() {
    for order in [2, 3] {
        agrees(&format!("deis-{order}"), &Deis { last: LAST, ..Deis::new(order) });
    }
}

#[test]
fn the_consistency_step_with_its_boundary() {
    agrees("lcm", &Lcm { boundary: Some(Boundary::default()) });
}

/// Where our defaults differ from diffusers, samples of 50 steps differ by this much.
#[test]
fn our_defaults_differ_a_little_on_purpose() {
    let falling = DpmPp3m { last: LastSteps::Fall, ..DpmPp3m::diffusers(0.0) };
    let cases: [(&str, &dyn Sampler, f64); 7] = [
        // Straight along the line of flow matching, and several times more accurate.
        ("heun", &Heun::default(), 6.2e-3),
        // The whole second difference, and orders that also fall in the last steps of long runs.
        ("dpmpp-3m", &DpmPp3m::new(0.0), 3.2e-3),
        ("dpmpp-3m", &falling, 4.5e-3),
        ("deis-3", &Deis::new(3), 1.1e-2),
        // The line through two x0-hat averaged exactly, rather than by half of B(h).
        ("unipc-2-bh2", &UniPc::new(2), 1.0e-3),
        ("unipc-3-bh2", &UniPc::new(3), 6.4e-4),
        // x0-hat itself, from which the boundary subtracts 3e-6 at step 19, adding 7e-6 of the
        // state.
        ("lcm", &Lcm::default(), 5.2e-6),
    ];
    for (name, sampler, about) in cases {
        let end = |run: &Run, off: &Off| off.step == run.steps;
        let off = largest(name, sampler, |run| run.table == "linear" && run.steps == 50, end);
        assert!((0.7..1.5).contains(&(off / about)), "{name} {sampler:?}: {off:e}");
    }
}
