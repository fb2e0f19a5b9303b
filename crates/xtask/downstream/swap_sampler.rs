//! A sampler of one's own in the place of the crate's, with vd-diffusion alone.

use std::ops::ControlFlow;

use vd_diffusion::tch::{Device, Kind, Tensor};
use vd_diffusion::{
    Denoiser, Interval, Noise, NoiseLevel, Result, Sampler, SamplerConfig, ScheduleConfig,
    SeededNoise, Spacing, Step, StepTaken, sample, start,
};

/// The exact answer where data is normal with this mean and deviation.
#[derive(Debug)]
struct Normal {
    mean: f64,
    std: f64,
}

impl Denoiser for Normal {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        let variance = self.std * self.std;
        let gain = at.alpha * variance / (at.alpha * at.alpha * variance + at.sigma * at.sigma);
        Ok((x - self.mean * at.alpha) * gain + self.mean)
    }
}

/// Jumps to x0-hat and noises it anew: as good as its first guess.
#[derive(Debug)]
struct Jump;

impl Sampler for Jump {
    fn step(&self, x: &Tensor, over: &Interval<'_>, noise: &mut dyn Noise) -> Result<Step> {
        let x0 = over.denoise(x, over.from)?;
        Ok(Step::new(&x0 * over.to.alpha + noise.normal(x) * over.to.sigma, x0))
    }
}

/// Ralston's method along x / (alpha + sigma) over s = sigma / (alpha + sigma), whose slope is
/// eps-hat - x0-hat: a second look two thirds of the way.
#[derive(Debug)]
struct Ralston;

impl Sampler for Ralston {
    fn step(&self, x: &Tensor, over: &Interval<'_>, _: &mut dyn Noise) -> Result<Step> {
        let (from, to) = (over.from, over.to);
        let place = |at: NoiseLevel| at.sigma / (at.alpha + at.sigma);
        let slope = |x: &Tensor, x0: &Tensor, at: NoiseLevel| (x - x0 * at.alpha) / at.sigma - x0;
        let (start, length) = (place(from), place(to) - place(from));
        let line = x / (from.alpha + from.sigma);
        let x0 = over.denoise(x, from)?;
        let first = slope(x, &x0, from);
        let s = start + length * 2.0 / 3.0;
        let middle = over.schedule.at_log_snr(2.0 * ((1.0 - s) / s).ln());
        let there = &line + &first * (place(middle) - start);
        let there = there * (middle.alpha + middle.sigma);
        let second = slope(&there, &over.denoise(&there, middle)?, middle);
        let line = line + (first * 0.25 + second * 0.75) * length;
        Ok(Step::new(line * (to.alpha + to.sigma), x0))
    }
}

fn main() -> Result<()> {
    let schedule = ScheduleConfig::default().build()?;
    let schedule = schedule.as_ref();
    let grid = Spacing::UniformT.grid(schedule, 100)?;
    let data = Normal { mean: 0.3, std: 0.2 };
    let like = Tensor::empty([64, 1, 4, 8, 8], (Kind::Double, Device::Cpu));
    let spread = |sampler: &dyn Sampler| -> Result<f64> {
        let mut noise = SeededNoise::new(3, 0);
        let x = start(&like, grid[0], &mut noise);
        let mut steps = 0;
        let mut on_step = |_: &StepTaken<'_>| {
            steps += 1;
            ControlFlow::Continue(())
        };
        let made = sample(sampler, &data, schedule, &grid, x, &mut noise, &mut on_step)?;
        assert_eq!(steps, 100);
        // Four standard errors of the mean of 16384 numbers, and what 100 steps leave of the start.
        let mean = made.mean(Kind::Double).double_value(&[]);
        assert!((mean - data.mean).abs() < 0.02, "{sampler:?}: mean {mean}");
        Ok(made.std(true).double_value(&[]))
    };

    // The same call takes a sampler of the crate's or of one's own.
    let heun = spread(SamplerConfig::heun(Default::default()).build()?.as_ref())?;
    let (ralston, jump) = (spread(&Ralston)?, spread(&Jump)?);
    assert!((heun - data.std).abs() < 0.01, "{heun}");
    assert!((ralston - data.std).abs() < 0.01, "{ralston}");
    // Whoever throws the noise away at every step ends nearer to the mean.
    assert!(jump < 0.15, "{jump}");
    println!("swap sampler: deviation .2 is {heun:.3}, {ralston:.3} and {jump:.3}");
    Ok(())
}
