//! Deliberate differences from diffusers, emulated with our samplers.

use tch::Tensor;
use vd_diffusion::{Ancestral, DpmPp3m, Interval, Noise, NoiseLevel, Result, Sampler, Step, moves};

/// Adds the noise also to a clean sample.
#[derive(Debug)]
pub(crate) struct NoiseOnClean(pub(crate) Ancestral);

impl Sampler for NoiseOnClean {
    fn step(&self, x: &Tensor, over: &Interval<'_>, noise: &mut dyn Noise) -> Result<Step> {
        let mut step = self.0.step(x, over, noise)?;
        if over.to.sigma == 0.0 {
            step.x += noise.normal(x) * over.from.variance_given(over.to).sqrt();
        }
        Ok(step)
    }
}

/// With alpha times the second difference missing at every third-order step.
#[derive(Debug)]
pub(crate) struct WrongSign(pub(crate) DpmPp3m);

impl Sampler for WrongSign {
    fn step(&self, x: &Tensor, over: &Interval<'_>, noise: &mut dyn Noise) -> Result<Step> {
        let mut step = self.0.step(x, over, noise)?;
        let recent = over.recent(x, &step.x0, 3);
        let short = over.of < 15 && over.index + 2 >= over.of;
        if let ([a, b, c], false, false) = (&recent[..], short, over.to.sigma == 0.0) {
            let [la, lb, lc] = [a, b, c].map(|past| past.at.half_log_snr());
            let h = over.to.half_log_snr() - la;
            let newer = (&a.x0 - &b.x0) * (h / (la - lb));
            let older = (&b.x0 - &c.x0) * (h / (lb - lc));
            step.x -= (newer - older) * (over.to.alpha * h / (la - lc));
        }
        Ok(step)
    }
}

/// PNDM on v instead of eps-hat.
#[derive(Debug)]
pub(crate) struct MeanOfV;

impl Sampler for MeanOfV {
    fn step(&self, x: &Tensor, over: &Interval<'_>, _: &mut dyn Noise) -> Result<Step> {
        let (from, to) = (over.from, over.to);
        let x0 = over.denoise(x, from)?;
        let v = |at: NoiseLevel, x: &Tensor, x0: &Tensor| at.eps(x, x0) * at.alpha - x0 * at.sigma;
        let recent = over.recent(x, &x0, 4);
        let mut all: Vec<_> = recent.iter().map(|past| v(past.at, &past.x, &past.x0)).collect();
        let weights: &[f64] = match recent.len() {
            1 => {
                let end = moves::hold_x0(x, &x0, from, to);
                all.push(v(to, &end, &over.denoise(&end, to)?));
                &[0.5, 0.5]
            }
            2 => &[1.5, -0.5],
            3 => &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
            _ => &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
        };
        let mean: Tensor = all.iter().zip(weights).map(|(v, weight)| v * *weight).sum();
        let eps = mean * from.alpha + x * from.sigma;
        Ok(Step::new(moves::hold_eps(x, &eps, from, to), x0))
    }
}
