//! A tiny network with parameters away from their start, and random questions to it.

#![allow(dead_code, unreachable_pub)]

use tch::{Device, Kind, Tensor};
use vd_unet3d::ops::{Params, derive_seed};
use vd_unet3d::{Backbone, Cond, FrameMask, UNet3d, UNet3dConfig};

use crate::oracle::draw::{normal, one_thread, perturb, uniform};

/// Two levels of 8 and 16 channels, two heads of 4.
pub fn config() -> UNet3dConfig {
    UNet3dConfig {
        dim: 8,
        dim_mults: vec![1, 2],
        init_kernel_size: 3,
        attn_heads: 2,
        attn_dim_head: 4,
        ..UNet3dConfig::video_diffusion_pytorch_0_7()
    }
}

/// The same, conditioned on embeddings of five features.
pub fn conditional() -> UNet3dConfig {
    UNet3dConfig { cond_dim: Some(5), ..config() }
}

pub fn build(config: &UNet3dConfig, kind: Kind, seed: u64) -> (UNet3d, Params) {
    one_thread();
    let mut params = Params::new(seed, kind, Device::Cpu);
    let net = UNet3d::new(config, &mut params.root()).unwrap();
    perturb(&params, seed ^ 0xFACE);
    (net, params)
}

/// What a network is asked.
pub struct Scene {
    pub x: Tensor,
    pub t: Tensor,
    pub cond: Cond,
    pub frames: FrameMask,
}

/// Video, levels per sample in 0..1000, an embedding per sample where the network takes one.
pub fn scene(config: &UNet3dConfig, kind: Kind, seed: u64, [b, f, h, w]: [i64; 4]) -> Scene {
    let draw = |part: u64, shape: &[i64]| normal(derive_seed(seed, &[part]), shape).to_kind(kind);
    let cond = config.cond_dim.map_or_else(Cond::none, |d| Cond::pooled(draw(1, &[b, d])));
    Scene {
        x: draw(0, &[b, config.channels, f, h, w]),
        t: levels(seed, &[b]).to_kind(kind),
        cond,
        frames: FrameMask::All,
    }
}

pub fn levels(seed: u64, shape: &[i64]) -> Tensor {
    uniform(derive_seed(seed, &[2]), shape, 0.0, 1000.0)
}

pub fn ask(net: &UNet3d, scene: &Scene) -> Tensor {
    net.forward(&scene.x, &scene.t, &scene.cond, &scene.frames, None).unwrap()
}
