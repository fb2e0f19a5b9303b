//! Differences between the precisions of a trained network after many steps, which accumulate
//! rounding.
#![allow(clippy::unwrap_used)]

use tch::{Device, Kind, Tensor};
use vd_diffusion::{
    Ancestral, Cond, Diffusion, DiffusionConfig, FrameMask, Noise, Parameterization,
    ScheduleConfig, SeededNoise, Spacing, Threshold, Thresholded, keep_going, sample,
};
use vd_unet3d::ops::kernels::Precision;
use vd_unet3d::ops::torch::testing::folder;
use vd_unet3d::ops::{Params, Weights};
use vd_unet3d::{UNet3d, UNet3dConfig};

/// The others are compared with the first.
const PRECISIONS: [Precision; 3] = [Precision::Reference, Precision::Exact, Precision::F32];

/// As in crates/vd-unet3d/tests/parity/trained.toml.
fn trained() -> UNet3d {
    let config = UNet3dConfig {
        dim: 16,
        dim_mults: vec![1, 2],
        init_kernel_size: 3,
        attn_heads: 2,
        attn_dim_head: 16,
        cond_dim: Some(16),
        ..UNet3dConfig::default()
    };
    let mut params = Params::new(0, Kind::Float, Device::Cpu);
    let network = UNet3d::new(&config, &mut params.root()).unwrap();
    let path = folder(env!("CARGO_MANIFEST_DIR"));
    let path = path.join("../vd-unet3d/tests/parity/trained.safetensors");
    params.load(&Weights::read(&path, Device::Cpu).unwrap().tensors).unwrap();
    network
}

/// A clip from this number of ancestral steps, with the noise of a seed.
fn clip(network: &UNet3d, steps: usize, seed: u64) -> Tensor {
    let config = DiffusionConfig {
        schedule: ScheduleConfig::cosine(),
        parameterization: Parameterization::V,
        ..DiffusionConfig::default()
    };
    let diffusion = Diffusion::new(&config).unwrap();
    let denoiser = diffusion.denoiser(network, Cond::none(), FrameMask::All);
    let denoiser = Thresholded::new(denoiser, Threshold::Static).unwrap();
    let schedule = diffusion.schedule();
    let grid = Spacing::UniformT.grid(schedule, steps).unwrap();
    let mut noise = SeededNoise::new(seed, 0);
    let x = noise.normal(&Tensor::empty([1, 3, 4, 16, 16], (Kind::Float, Device::Cpu)));
    let sampler = Ancestral { gamma: 0.0 };
    sample(&sampler, &denoiser, schedule, &grid, x, &mut noise, &mut keep_going).unwrap()
}

#[test]
fn fifty_ancestral_steps_end_at_the_same_pixels_in_every_precision() {
    let mut network = trained();
    let mut drawn = Vec::new();
    for precision in PRECISIONS {
        network.set_precision(precision);
        drawn.push(clip(&network, 50, 1));
    }
    let reference = &drawn[0];
    // a proper clip, not clamped everywhere
    let std = reference.std(true).double_value(&[]);
    assert!(reference.isfinite().all().int64_value(&[]) == 1 && std > 0.1, "std {std}");
    for (precision, clip) in PRECISIONS.iter().zip(&drawn).skip(1) {
        let apart = (clip - reference).to_kind(Kind::Double);
        let relative = (apart.norm() / reference.to_kind(Kind::Double).norm()).double_value(&[]);
        let pixel = 127.5 * apart.abs().max().double_value(&[]);
        // Measured with AVX2: 1.3e-7 and 1.2e-4 of 255; the margin is for other orders of
        // summation.
        assert!(relative <= 1e-5 && pixel <= 1e-2, "{precision}: {relative:e}, {pixel:e}");
    }
}
