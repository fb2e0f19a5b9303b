//! DDIM inversion on densities whose flow is known.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use std::ops::ControlFlow;

use known::{Basis, Flow, Gaussian, Mixture, cosine, doubles, even, largest, random, run};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{
    CosineDiscrete, Ddim, Denoiser, Error, NoiseLevel, Result, Schedule, Spacing, invert,
    keep_going,
};

fn up(
    density: &dyn Denoiser,
    schedule: &dyn Schedule,
    grid: &[NoiseLevel],
    x: &Tensor,
) -> Result<Tensor> {
    invert(density, schedule, grid, x.shallow_clone(), &mut keep_going)
}

/// The error of `x` after inversion and sampling in n steps each.
fn round_trip(
    density: &dyn Denoiser,
    schedule: &dyn Schedule,
    grid: &[NoiseLevel],
    x: &Tensor,
) -> f64 {
    let top = up(density, schedule, grid, x).unwrap();
    let ddim = Ddim { eta: 0.0 };
    let back = run(&ddim, density, schedule, grid, &top, &mut Basis { drawn: 0 });
    largest(&(back - x))
}

fn assert_halves(name: &str, errors: [f64; 3]) {
    let orders = [errors[0] / errors[1], errors[1] / errors[2]].map(f64::log2);
    // The remainder of the next order halves as well.
    assert!((orders[0] - 1.0).abs() < 0.15 && (orders[1] - 1.0).abs() < 0.08, "{name}: {errors:?}");
}

#[test]
fn the_way_up_and_down_misses_to_first_order() {
    let x = random(1, &[6], Kind::Double) * 0.6;
    let gaussian = Gaussian { mean: doubles(&[0.2; 6]), std: 0.5 };
    let cosine_trip = |density: &dyn Denoiser| {
        [128, 256, 512].map(|n| round_trip(density, &cosine(), &even(n), &x))
    };
    assert_halves("Gaussian, cosine", cosine_trip(&gaussian));
    assert_halves("mixture, cosine", cosine_trip(&Mixture));
    let in_t = |n| Spacing::UniformT.grid(&Flow, n).unwrap();
    let errors = [128, 256, 512].map(|n| round_trip(&Mixture, &Flow, &in_t(n), &x));
    assert_halves("mixture, straight line from clean to pure noise", errors);
}

#[test]
fn inversion_follows_the_flow_upwards_to_first_order() {
    let x = doubles(&[-1.3, -0.4, 0.1, 0.7, 1.4]);
    let errors = [128, 256, 512].map(|n| {
        let grid = even(n);
        let exact = Mixture::flow(&x, grid[n], grid[0]);
        largest(&(up(&Mixture, &cosine(), &grid, &x).unwrap() - exact))
    });
    assert_halves("mixture", errors);
}

/// Refuses clean data, as a network would.
#[derive(Debug)]
struct NeverClean;

impl Denoiser for NeverClean {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        assert!(at.sigma > 0.0, "asked at {at:?}");
        Mixture.denoise(x, at)
    }
}

#[test]
fn a_network_is_never_asked_about_clean_data() {
    let table = CosineDiscrete::new(50).unwrap();
    let x = random(2, &[3, 2], Kind::Double);
    for n in [2, 10, 50] {
        let grid = Spacing::UniformT.grid(&table, n).unwrap();
        assert!(up(&NeverClean, &table, &grid, &x).unwrap().isfinite().all().int64_value(&[]) == 1);
    }
}

#[test]
fn steps_are_counted_and_can_be_stopped() {
    let x = random(3, &[2], Kind::Double).set_requires_grad(true);
    let mut seen = Vec::new();
    let mut stop = |taken: &vd_diffusion::StepTaken<'_>| {
        assert!(!taken.step.x.requires_grad(), "gradients are off");
        seen.push((taken.index, taken.of));
        assert!(taken.to.t > taken.from.t, "upwards");
        if taken.index == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let end = invert(&Mixture, &cosine(), &even(9), x, &mut stop);
    assert!(matches!(end, Err(Error::Cancelled { steps: 3 })), "{end:?}");
    assert_eq!(seen, [(0, 9), (1, 9), (2, 9)]);
}

#[test]
fn misuse_is_refused() {
    let x = random(4, &[2], Kind::Double);
    let refused = |grid: &[NoiseLevel]| up(&Mixture, &Flow, grid, &x).unwrap_err().to_string();
    let levels = [1.0, 0.5, 0.0].map(|t| Flow.at(t));
    assert!(refused(&levels[..1]).contains("at least two levels"));
    assert!(refused(&[levels[1], levels[0]]).contains("less noise from level to level"));
    let message = refused(&[levels[0], levels[2]]);
    assert!(message.contains("a level between the clean end"), "{message}");
    let whole = x.to_kind(Kind::Int64);
    assert!(up(&Mixture, &Flow, &levels, &whole).unwrap_err().to_string().contains("x0"));
}
