//! A loss and samples from a network that is one number, with vd-diffusion alone.

use vd_diffusion::tch::{Device, Kind, Tensor};
use vd_diffusion::unet3d::{Result as Answer, ops};
use vd_diffusion::{
    Backbone, Cond, Ddim, Diffusion, DiffusionConfig, FrameMask, LossRequest, Noise, SeededNoise,
    Spacing, Threshold, Thresholded, keep_going, sample, start,
};

/// Takes a learned share of what it sees for noise.
#[derive(Debug)]
struct Share(Tensor);

impl Backbone for Share {
    fn forward(
        &self,
        x: &Tensor,
        _t: &Tensor,
        _cond: &Cond,
        _frames: &FrameMask,
        _train: Option<&mut dyn Noise>,
    ) -> Answer<Tensor> {
        Ok(x * &self.0)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let diffusion = Diffusion::new(&DiffusionConfig::default())?;
    let mut params = ops::Params::new(0, Kind::Float, Device::Cpu);
    let share = Share(params.root().param("share", &[1], ops::Init::Const(0.5))?);

    let mut noise = SeededNoise::new(7, 0);
    let x0 = noise.normal(&Tensor::empty([4, 3, 2, 8, 8], (Kind::Float, Device::Cpu)));
    let loss = diffusion.loss(&share, &x0, &Cond::none(), LossRequest::default(), &mut noise)?;
    loss.mean.backward();
    assert!(share.0.grad().defined());

    let grid = Spacing::UniformT.grid(diffusion.schedule(), 10)?;
    let denoiser = diffusion.denoiser(&share, Cond::none(), FrameMask::All);
    let denoiser = Thresholded::new(denoiser, Threshold::Static)?;
    let x = start(&x0, grid[0], &mut noise);
    let ddim = Ddim { eta: 0.0 };
    let made =
        sample(&ddim, &denoiser, diffusion.schedule(), &grid, x, &mut noise, &mut keep_going)?;
    assert_eq!(made.size(), x0.size());
    assert!(made.abs().max().double_value(&[]) <= 1.0);
    println!("vd-diffusion: loss {:.3}, {} steps", loss.mean.double_value(&[]), grid.len() - 1);
    Ok(())
}
