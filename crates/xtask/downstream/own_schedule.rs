//! A schedule of one's own under everything that the crate has, with vd-diffusion alone.

use vd_diffusion::tch::{Device, Kind, Tensor};
use vd_diffusion::unet3d::Result as Answer;
use vd_diffusion::{
    Backbone, Cond, Diffusion, FrameMask, LossKind, LossRequest, Noise, NoiseLevel,
    Parameterization, Result, SamplerConfig, Schedule, SeededNoise, Shifted, Spacing, TimeSampling,
    keep_going, sample, start,
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

fn diffusion(schedule: Box<dyn Schedule>) -> Result<Diffusion> {
    Diffusion::with_schedule(schedule, Parameterization::X0, LossKind::L2, TimeSampling::Stratified)
}

fn main() -> Result<()> {
    let network = Constant(0.25);
    let like = Tensor::empty([2, 3, 4, 8, 8], (Kind::Float, Device::Cpu));
    let mut noise = SeededNoise::new(3, 0);

    // Training: the constant is what there is to learn, so nothing is left to lose.
    let process = diffusion(Box::new(Angle))?;
    let x0 = like.full_like(0.25);
    let loss = process.loss(&network, &x0, &Cond::none(), LossRequest::default(), &mut noise)?;
    assert!(loss.mean.double_value(&[]) < 1e-12);

    // Sampling: every spacing goes over it, as it is and shifted to more noise.
    let shifted: Box<dyn Schedule> = Box::new(Shifted::new(Box::new(Angle), -1.4)?);
    let sampler = "dpmpp-2m".parse::<SamplerConfig>()?.build()?;
    let mut grids = 0;
    for schedule in [Box::new(Angle), shifted] {
        let process = diffusion(schedule)?;
        let denoiser = process.denoiser(&network, Cond::none(), FrameMask::All);
        for spacing in Spacing::all() {
            let grid = spacing.grid(process.schedule(), 8)?;
            let x = start(&like, grid[0], &mut noise);
            let schedule = process.schedule();
            let sampler = sampler.as_ref();
            let made = sample(sampler, &denoiser, schedule, &grid, x, &mut noise, &mut keep_going)?;
            let off = (made - 0.25).abs().max().double_value(&[]);
            assert!(off < 1e-5, "{spacing:?}: {off}");
            grids += 1;
        }
    }
    println!("own schedule: {grids} grids along an angle");
    Ok(())
}
