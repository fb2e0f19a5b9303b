//! A schedule, a sampler and a network of one's own, with vd-diffusion alone.

use std::ops::ControlFlow;

use vd_diffusion::tch::{Device, Kind, Tensor};
use vd_diffusion::unet3d::Result as Answer;
use vd_diffusion::{
    Backbone, Cond, Diffusion, FrameMask, Interval, LossKind, Noise, NoiseLevel, Parameterization,
    Result, Sampler, Schedule, SeededNoise, Spacing, Step, TimeSampling, sample, start,
};

/// Variance preserving, with an angle that grows evenly: alpha = cos, sigma = sin.
#[derive(Debug)]
struct Angle;

impl Schedule for Angle {
    fn at(&self, t: f64) -> NoiseLevel {
        let (sigma, alpha) = (t * std::f64::consts::FRAC_PI_2).sin_cos();
        NoiseLevel { t, alpha, sigma }
    }

    fn time_input(&self, t: f64) -> f64 {
        t
    }

    fn t_at(&self, log_snr: f64) -> f64 {
        (-log_snr / 2.0).exp().atan() / std::f64::consts::FRAC_PI_2
    }
}

/// Jumps to x0-hat and noises it anew.
#[derive(Debug)]
struct Jump;

impl Sampler for Jump {
    fn step(&self, x: &Tensor, over: &Interval<'_>, noise: &mut dyn Noise) -> Result<Step> {
        let x0 = over.denoise(x, over.from)?;
        Ok(Step::new(&x0 * over.to.alpha + noise.normal(x) * over.to.sigma, x0))
    }
}

/// The exact answer where all data is one constant.
#[derive(Debug)]
struct Constant(f64);

impl Backbone for Constant {
    fn forward(
        &self,
        x: &Tensor,
        _t: &Tensor,
        _cond: &Cond,
        _frames: &FrameMask,
        _train: Option<&mut dyn Noise>,
    ) -> Answer<Tensor> {
        Ok(x.full_like(self.0))
    }
}

fn main() -> Result<()> {
    let diffusion = Diffusion::with_schedule(
        Box::new(Angle),
        Parameterization::X0,
        LossKind::L2,
        TimeSampling::Stratified,
    )?;
    let network = Constant(0.25);
    let denoiser = diffusion.denoiser(&network, Cond::none(), FrameMask::All);
    let grid = Spacing::UniformT.grid(diffusion.schedule(), 8)?;
    let like = Tensor::empty([2, 3, 4, 8, 8], (Kind::Float, Device::Cpu));
    let mut noise = SeededNoise::new(3, 0);
    let x = start(&like, grid[0], &mut noise);
    let mut spread = Vec::new();
    let mut on_step = |_: usize, step: &Step| {
        spread.push(step.x.std(true).double_value(&[]));
        ControlFlow::Continue(())
    };
    let made = sample(&Jump, &denoiser, diffusion.schedule(), &grid, x, &mut noise, &mut on_step)?;

    // Four standard errors of the spread of 1536 numbers.
    for (found, at) in spread.iter().zip(&grid[1..]) {
        assert!((found - at.sigma).abs() <= 0.075 * at.sigma, "{found} at {at:?}");
    }
    let off = (made - 0.25).abs().max().double_value(&[]);
    assert!(off < 1e-6, "{off}");
    println!("own parts: {} steps along an angle", spread.len());
    Ok(())
}
