//! Pixels, noise, a layer and a weight file, with vd-tensor-ops alone.

use vd_tensor_ops::layers::Linear;
use vd_tensor_ops::tch::{Device, Kind, Tensor};
use vd_tensor_ops::{Noise, Params, SeededNoise, Weights, video};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A clip of 4 frames of 6 x 10 pixels: b c f h w.
    let like = Tensor::empty([1, 3, 4, 6, 10], (Kind::Float, Device::Cpu));
    let pixels = video::to_u8(&SeededNoise::new(5, 0).normal(&like));
    let array = video::to_ndarray::<u8>(&pixels)?;
    assert_eq!(array.shape(), [1, 3, 4, 6, 10]);
    let x = video::from_u8(&video::from_ndarray(&array)?);
    assert_eq!(video::to_u8(&x), pixels);

    let mut params = Params::new(0, Kind::Float, Device::Cpu);
    let linear = Linear::new(&mut params.root().sub("mix"), 3, 7)?;
    let y = linear.forward(&video::to_channels_last(&x)); // b f h w c
    assert_eq!(y.size(), [1, 4, 6, 10, 7]);

    let file = std::env::current_dir()?.join("mix.safetensors");
    Weights { tensors: params.tensors(), ..Default::default() }.write(&file)?;
    params.load(&Weights::read(&file, Device::Cpu)?.tensors)?;
    println!("vd-tensor-ops: {} parameters went to a file and back", params.count());
    Ok(())
}
