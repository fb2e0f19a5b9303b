//! A small conditional network and its gradients, with vd-unet3d alone.

use vd_unet3d::ops::{Noise, Params, SeededNoise};
use vd_unet3d::tch::{Device, Kind, Tensor};
use vd_unet3d::{Backbone, Cond, FrameMask, UNet3d, UNet3dConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config =
        UNet3dConfig { dim: 8, dim_mults: vec![1, 2], cond_dim: Some(6), ..Default::default() };
    let mut params = Params::new(0, Kind::Float, Device::Cpu);
    let unet = UNet3d::new(&config, &mut params.root())?;

    let mut noise = SeededNoise::new(1, 0);
    let x = noise.normal(&Tensor::empty([2, 3, 4, 8, 8], (Kind::Float, Device::Cpu)));
    let cond = Cond::pooled(noise.normal(&Tensor::empty([2, 6], (Kind::Float, Device::Cpu))));
    let t = Tensor::from_slice(&[10i64, 500]);
    let answer = unet.forward(&x, &t, &cond, &FrameMask::All, None)?;
    assert_eq!(answer.size(), x.size());

    answer.square().mean(Kind::Float).backward();
    let reached = params.trainable().into_iter().filter(|(_, p)| p.grad().defined()).count();
    assert!(reached > 0);
    println!("vd-unet3d: gradients reached {reached} of {} parameters", params.trainable().len());
    Ok(())
}
