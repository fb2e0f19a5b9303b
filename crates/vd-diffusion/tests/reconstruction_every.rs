//! Strength of reconstruction guidance if not every step computes the gradient.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod known;

use known::pairs::Correlated;
use known::{cosine, doubles, run};
use vd_diffusion::tch::Tensor;
use vd_diffusion::{
    Heun, Known, Noise, Reconstruction, ReconstructionConfig, Sampler, SamplerConfig, Spacing,
};

const GIVEN: f64 = 1.2;

/// Returns the mean of the noise: the run is affine, and ends at its mean.
#[derive(Debug)]
struct Silent;

impl Noise for Silent {
    fn normal(&mut self, like: &Tensor) -> Tensor {
        like.zeros_like()
    }
    fn uniform(&mut self, like: &Tensor) -> Tensor {
        like.zeros_like()
    }
}

/// The exact mean of the second component of a pair whose first is known.
fn mean(sampler: &dyn Sampler, spacing: &Spacing, rho: f64, weight: f64, every: usize) -> f64 {
    let given = doubles(&[GIVEN, 0.0]).view([1, 2]);
    let known = vec![Known::pixels(given, Tensor::from_slice(&[true, false]))];
    let config = ReconstructionConfig { weight, replace: true, every };
    let denoiser = Reconstruction::new(Correlated(rho), known, &[1, 2], config).unwrap();
    let grid = spacing.grid(&cosine(), 64).unwrap();
    let x = doubles(&[0.0, 0.0]).view([1, 2]);
    run(sampler, &denoiser, &cosine(), &grid, &x, &mut Silent).double_value(&[0, 1])
}

#[test]
fn a_gradient_in_every_kth_step_is_as_strong_as_one_in_all() {
    for config in [
        SamplerConfig::Ancestral { gamma: 0.0 },
        SamplerConfig::Ddim { eta: 0.0 },
        SamplerConfig::heun(Heun::default()),
        SamplerConfig::Dpm2,
        "dpmpp-2m".parse().unwrap(),
    ] {
        let sampler = config.build().unwrap();
        for spacing in [Spacing::UniformT, Spacing::UniformLogSnr] {
            for (rho, weight) in [(0.9, 2.0), (0.5, 2.0), (0.9, 1.0)] {
                let mean = |weight, every| mean(&*sampler, &spacing, rho, weight, every);
                let (off, all) = (mean(0.0, 1), mean(weight, 1));
                // Measured: at most .036 and .117 of the gradient's whole effect.
                for (every, most) in [(2, 0.04), (4, 0.13)] {
                    let share = (mean(weight, every) - off) / (all - off);
                    let case = format!("{config:?}, {spacing:?}, {rho}, {weight}, {every}");
                    assert!((share - 1.0).abs() < most, "{case}: {share}");
                }
            }
        }
    }
}
