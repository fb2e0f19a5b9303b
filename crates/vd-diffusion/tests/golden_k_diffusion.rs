//! Our samplers compared with those of k-diffusion 0.1.1: the same density, levels, start and
//! noise.
//!
//! golden/k_diffusion.py wrote the fixtures and documents their content. Both sides are in f64, the
//! states are stored in f32: they must agree within 5e-7 at every step. This covers churn, the
//! ancestral 2S and the SDEs between the flow (eta = 0) and the reverse SDE (1), which diffusers
//! lacks or, for the 3M SDE, implements differently.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use vd_diffusion::{
    Ddim, Dpm2, DpmPp2m, DpmPp2s, DpmPp3m, Heun, Line, LineRule, Lms, Sampler, SamplerFacts,
};

#[path = "../../vd-unet3d/tests/common/mod.rs"]
mod common;
#[path = "golden/fixture.rs"]
mod fixture;

use fixture::{runs_in, schedulers};

fn agrees(name: &str, sampler: &dyn Sampler) {
    for run in runs_in("k_diffusion", name) {
        for off in run.sampled(sampler, &run.levels) {
            assert!(off.of_allowed <= 1.0, "{name} {}: {off:?}", run.name());
        }
    }
}

#[test]
fn every_sampler_that_we_name_as_the_same_is_compared() {
    let compared = schedulers("k_diffusion");
    for facts in SamplerFacts::ALL {
        let words =
            facts.k_diffusion.unwrap_or_default().split(|c: char| !c.is_alphanumeric() && c != '_');
        for named in words.filter(|word| word.starts_with("sample_")) {
            let found = compared.iter().any(|name| name == named);
            assert!(found, "{}: {named} has no fixture", facts.name);
        }
    }
}

#[test]
fn euler_and_euler_ancestral_are_ddim() {
    agrees("euler", &Ddim { eta: 0.0 });
    agrees("euler-ancestral", &Ddim { eta: 0.6 });
}

#[test]
fn heun_with_and_without_churn() {
    let heun = Heun { line: Line::Edm, ..Heun::default() };
    agrees("heun", &heun);
    agrees("heun-churn", &Heun { churn: 10.0, churn_noise: 1.003, ..heun });
}

#[test]
fn dpm_solver_2() {
    agrees("dpm2", &Dpm2);
}

#[test]
fn linear_multistep() {
    agrees("lms", &Lms { order: 4 });
}

#[test]
fn dpm_solver_2s_ancestral() {
    agrees("dpmpp-2s-0", &DpmPp2s { eta: 0.0 });
    agrees("dpmpp-2s-1", &DpmPp2s { eta: 1.0 });
}

#[test]
fn dpm_solver_2m_and_its_sde() {
    agrees("dpmpp-2m", &DpmPp2m::new(0.0));
    agrees("dpmpp-2m-sde-midpoint", &DpmPp2m::new(0.6));
    agrees("dpmpp-2m-sde-heun", &DpmPp2m { line: LineRule::Whole, ..DpmPp2m::new(1.0) });
}

/// The published form, which keeps half of the parabola's second difference.
#[test]
fn dpm_solver_3m_and_its_sde() {
    agrees("dpmpp-3m-sde-0", &DpmPp3m::k_diffusion(0.0));
    agrees("dpmpp-3m-sde-1", &DpmPp3m::k_diffusion(1.0));
}
