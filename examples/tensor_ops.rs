//! vd-tensor-ops alone: a tensor from pixels, a layer of attention over time, weights in a file.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use vd_tensor_ops::layers::{HeadShape, RelativeBias, TemporalAttention};
use vd_tensor_ops::tch::{Device, Kind, Tensor};
use vd_tensor_ops::{FrameMask, Params, Weights, video};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Four frames of 8 x 8 pixels, with a moving bright column: b c f h w.
    let pixel = |i: i64| if i % 8 == (i / 64) % 4 { 255u8 } else { 10 };
    let pixels: Vec<u8> = (0..3 * 4 * 64).map(pixel).collect();
    let clip = video::from_u8(&Tensor::from_slice(&pixels).view([1, 3, 4, 8, 8]));

    let mut params = Params::new(7, Kind::Float, Device::Cpu);
    let shape = HeadShape::new(2, 16)?;
    let attention = TemporalAttention::new(&mut params.root().sub("time"), 3, shape)?;
    let bias = RelativeBias::new(&mut params.root().sub("bias"), shape.heads, 32)?;

    let x = video::to_channels_last(&clip); // b f h w c
    let mask = FrameMask::ClipAndImages { clip: 3 }; // the fourth frame is an image by itself
    let forbidden = mask.forbidden(4, Device::Cpu);
    let y = attention.forward(&x, Some(&bias.forward(4)), forbidden.as_ref());
    println!("{:?} -> {:?}", clip.size(), video::to_channels_first(&y).size());

    let file = std::env::temp_dir().join("vd-attention.safetensors");
    let weights = Weights { tensors: params.tensors(), metadata: Default::default() };
    weights.write(&file)?;
    params.load(&Weights::read(&file, Device::Cpu)?.tensors)?;
    println!("{} parameters went to {} and back", params.count(), file.display());
    Ok(())
}
