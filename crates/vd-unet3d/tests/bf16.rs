//! Error of a whole network due to bf16 in the attentions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use tch::{Device, Kind, Tensor};
use vd_unet3d::ops::kernels::Precision;
use vd_unet3d::ops::{Noise, Params, SeededNoise};
use vd_unet3d::{Backbone, Cond, FrameMask, UNet3d, UNet3dConfig};

fn draw(seed: u64, shape: &[i64]) -> Tensor {
    SeededNoise::new(seed, 0).normal(&Tensor::empty(shape, (Kind::Float, Device::Cpu)))
}

/// |bf16 - f32| / |f32| of a fresh network's output for noise; gains are spread around 1.
fn error(config: &UNet3dConfig, [b, f, side]: [i64; 3], seed: u64) -> f64 {
    let mut params = Params::new(seed, Kind::Float, Device::Cpu);
    let mut network = UNet3d::new(config, &mut params.root()).unwrap();
    for ((name, param), i) in params.iter().zip(1..) {
        if name.ends_with("gamma") {
            let _ = param.tensor.detach().g_add_(&(draw(seed ^ i, &param.tensor.size()) * 0.1));
        }
    }
    let x = draw(seed, &[b, config.channels, f, side, side]);
    let t = Tensor::from_slice(&vec![300i64; b as usize]);
    let [exact, got] = [Precision::F32, Precision::Bf16].map(|precision| {
        network.set_precision(precision);
        tch::no_grad(|| network.forward(&x, &t, &Cond::none(), &FrameMask::All, None)).unwrap()
    });
    let norm = |t: &Tensor| t.norm().double_value(&[]);
    norm(&(got - &exact)) / norm(&exact)
}

#[test]
fn a_fresh_network_answers_with_bf16_almost_as_in_f32() {
    let small = UNet3dConfig { dim: 32, dim_mults: vec![1, 2], ..UNet3dConfig::default() };
    let heads = UNet3dConfig { dim: 16, attn_heads: 4, ..small.clone() };
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into();
    for (config, size) in [(small, [1, 5, 16]), (heads, [2, 4, 16])] {
        let error = error(&config, size, seed);
        // Measured: 1.4e-3 to 2.0e-3, and 1.5e-3 for a network with 64 channels and four levels. A
        // nonzero error shows that the mode is on.
        assert!((3e-4..3e-3).contains(&error), "seed {seed}: {error:e} of {config:?}");
    }
}
