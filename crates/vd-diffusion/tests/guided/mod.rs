//! Common parts of the guidance tests.
#![allow(dead_code, reason = "each test file uses its part")]

use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{
    Cond, Denoiser, Diffusion, DiffusionConfig, FrameMask, GuidanceConfig, NoiseLevel, NoiseRange,
    Parameterization, ScheduleConfig, Signal,
};

use crate::known::{Toy, random};

pub(crate) const SIZE: [i64; 4] = [3, 2, 4, 2];

pub(crate) fn diffusion(parameterization: Parameterization) -> Diffusion {
    let schedule = ScheduleConfig::cosine();
    Diffusion::new(&DiffusionConfig { schedule, parameterization, ..Default::default() }).unwrap()
}

pub(crate) fn cond(seed: u64) -> Cond {
    Cond::pooled(random(seed, &[3, 5], Kind::Double))
}

pub(crate) fn signal(seed: u64, scale: f64) -> Signal {
    Signal { cond: cond(seed), scale }
}

pub(crate) fn apg(eta: f64, norm_threshold: f64, momentum: f64) -> GuidanceConfig {
    GuidanceConfig::Apg { eta, norm_threshold, momentum, within: NoiseRange::default() }
}

/// The network's own outputs, with and without conditioning.
pub(crate) fn apart(
    diffusion: &Diffusion,
    cond: &Cond,
    x: &Tensor,
    at: NoiseLevel,
) -> (Tensor, Tensor) {
    let toy = Toy::conditional();
    let answer =
        |cond: Cond| diffusion.denoiser(&toy, cond, FrameMask::All).denoise(x, at).unwrap();
    (answer(cond.shallow_clone()), answer(cond.nulled()))
}
