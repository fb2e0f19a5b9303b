//! vd-diffusion alone: your own sampler, on data whose exact result is known.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use vd_diffusion::tch::{Device, Kind, Tensor};
use vd_diffusion::{
    Ddim, Denoiser, Interval, Noise, NoiseLevel, Result, Sampler, ScheduleConfig, SeededNoise,
    Spacing, Step, keep_going, moves, sample, start,
};

/// The optimal denoiser of normal data with mean 0.5 and standard deviation 0.2.
struct Gaussian;

impl Denoiser for Gaussian {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        let (mean, variance) = (0.5, 0.04);
        let seen = at.alpha * at.alpha * variance + at.sigma * at.sigma;
        Ok((x - at.alpha * mean) * (at.alpha * variance / seen) + mean)
    }
}

/// The midpoint rule: half a step, a second evaluation there, then the whole step with its x0-hat.
#[derive(Debug)]
struct Midpoint;

impl Sampler for Midpoint {
    fn step(&self, x: &Tensor, over: &Interval<'_>, _: &mut dyn Noise) -> Result<Step> {
        let x0 = over.denoise(x, over.from)?;
        let middle = over.schedule.at(0.5 * (over.from.t + over.to.t));
        let half = moves::hold_x0(x, &x0, over.from, middle);
        let x0 = over.denoise(&half, middle)?;
        Ok(Step::new(moves::hold_x0(x, &x0, over.from, over.to), x0))
    }
}

fn main() -> Result<()> {
    let schedule = ScheduleConfig::cosine().build()?;
    let like = Tensor::empty([4000, 1], (Kind::Double, Device::Cpu));
    for steps in [8, 16, 32] {
        let grid = Spacing::UniformT.grid(schedule.as_ref(), steps)?;
        for sampler in [&Ddim { eta: 0.0 } as &dyn Sampler, &Midpoint] {
            let mut noise = SeededNoise::new(3, 0);
            let x = start(&like, grid[0], &mut noise);
            let schedule = schedule.as_ref();
            let x = sample(sampler, &Gaussian, schedule, &grid, x, &mut noise, &mut keep_going)?;
            let (mean, std) = (x.mean(Kind::Double), x.std(true));
            println!(
                "{steps:>2} steps of {sampler:?}: mean {:.4}, deviation {:.4} (0.5 and 0.2)",
                mean.double_value(&[]),
                std.double_value(&[])
            );
        }
    }
    Ok(())
}
