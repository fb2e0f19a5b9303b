//! vd-unet3d alone: a conditional network, one noise level per frame, and its gradients.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use vd_unet3d::ops::{Noise, Params, SeededNoise};
use vd_unet3d::tch::{Device, Kind, Tensor};
use vd_unet3d::{Backbone, Cond, FrameMask, UNet3d, UNet3dConfig};

fn main() -> Result<(), vd_unet3d::Error> {
    let config = UNet3dConfig {
        dim: 16,
        dim_mults: vec![1, 2],
        cond_dim: Some(8),
        attn_heads: 2,
        ..UNet3dConfig::video_diffusion_pytorch_0_7()
    };
    let mut params = Params::new(0, Kind::Float, Device::Cpu);
    let unet = UNet3d::new(&config, &mut params.root())?;
    println!("{} parameters in {} tensors", params.count(), params.iter().count());

    let cpu = (Kind::Float, Device::Cpu);
    let mut noise = SeededNoise::new(1, 0);
    let x = noise.normal(&Tensor::empty([2, 3, 5, 16, 24], cpu)); // b c f h w
    let cond = Cond::pooled(noise.normal(&Tensor::empty([2, 8], cpu)));
    // A level per frame: clean at the beginning, noisy at the end.
    let t = Tensor::arange(5, cpu).unsqueeze(0).repeat([2, 1]) * 200.0; // b f
    let y = unet.forward(&x, &t, &cond, &FrameMask::All, None)?;

    y.square().mean(Kind::Float).backward();
    // The null embedding was not used, so it has no gradient.
    let grads = params.trainable().into_iter().map(|(_, p)| p.grad()).filter(Tensor::defined);
    let sum: f64 = grads.map(|g| g.square().sum(Kind::Double).double_value(&[])).sum();
    println!("{:?} -> {:?}, norm of the gradient {:.3}", x.size(), y.size(), sum.sqrt());
    Ok(())
}
