//! vd-text-cond alone: prompts to clips. The network here is untrained, so the clips are noise.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::ops::ControlFlow;

use vd_text_cond::diffusion::unet3d::ops::Params;
use vd_text_cond::diffusion::unet3d::{UNet3d, UNet3dConfig};
use vd_text_cond::diffusion::{Diffusion, DiffusionConfig};
use vd_text_cond::tch::{Device, Kind};
use vd_text_cond::{
    Condition, GenerateRequest, Generator, Hashed, NullEmbedding, TextEncoder, generate,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let encoder = Hashed::new(32)?; // needs no weights
    let config = UNet3dConfig {
        dim: 8,
        dim_mults: vec![1, 2],
        cond_dim: Some(encoder.width()),
        ..UNet3dConfig::default()
    };
    let mut params = Params::new(0, Kind::Float, Device::Cpu);
    let unet = UNet3d::new(&config, &mut params.root())?;
    let diffusion = Diffusion::new(&DiffusionConfig::default())?;
    let model = Generator {
        backbone: &unet,
        diffusion: &diffusion,
        encoder: Some(&encoder),
        null: NullEmbedding::Trained,
        signals: &[],
    };
    let prompts = ["a red firework", "a blue firework"].map(str::to_owned).to_vec();
    let request = GenerateRequest {
        steps: 5,
        guidance: 2.0,
        ..GenerateRequest::new(Condition::Prompts(prompts), [4, 16, 16]) // frames, height, width
    };
    let videos = generate(&model, &request, &mut |progress| {
        println!("step {} of {}", progress.step, progress.of_steps);
        ControlFlow::Continue(())
    })?;
    println!("{:?}", videos.size()); // n c f h w, in [-1, 1]
    Ok(())
}
