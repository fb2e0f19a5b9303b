//! From prompts to videos, with vd-text-cond alone.

use std::ops::ControlFlow;

use vd_text_cond::diffusion::unet3d::{UNet3d, UNet3dConfig, ops};
use vd_text_cond::diffusion::{Diffusion, DiffusionConfig};
use vd_text_cond::tch::{Device, Kind};
use vd_text_cond::{
    Condition, GenerateRequest, Generator, Hashed, NullEmbedding, TextEncoder, generate,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let encoder = Hashed::new(6)?;
    let config = UNet3dConfig {
        dim: 8,
        dim_mults: vec![1, 2],
        cond_dim: Some(encoder.width()),
        ..Default::default()
    };
    let mut params = ops::Params::new(0, Kind::Float, Device::Cpu);
    let unet = UNet3d::new(&config, &mut params.root())?;
    let diffusion = Diffusion::new(&DiffusionConfig::default())?;
    let model = Generator {
        backbone: &unet,
        diffusion: &diffusion,
        encoder: Some(&encoder),
        null: NullEmbedding::Trained,
        signals: &[],
    };

    let prompts = ["a red firework", "two bursts, green then gold"].map(str::to_owned);
    let request = GenerateRequest {
        steps: 3,
        guidance: 2.0,
        ..GenerateRequest::new(Condition::Prompts(prompts.to_vec()), [4, 8, 8])
    };
    let mut steps = 0;
    let clips = generate(&model, &request, &mut |_| {
        steps += 1;
        ControlFlow::Continue(())
    })?;
    assert_eq!(clips.size(), [2, 3, 4, 8, 8]);
    println!("vd-text-cond: {} clips in {steps} steps", clips.size()[0]);
    Ok(())
}
