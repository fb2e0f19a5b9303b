//! Densities with closed-form denoisers, and schedules and noise with known results.
#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod pairs;

use std::sync::Mutex;

use vd_diffusion::tch::{Device, Kind, Tensor};
use vd_diffusion::{
    Backbone, Cond, Cosine, Denoiser, FrameMask, Interval, Noise, NoiseLevel, Result, Sampler,
    Schedule, SeededNoise, Spacing, Step, TimeInput, keep_going, moves, sample, unet3d,
};

pub(crate) fn doubles(values: &[f64]) -> Tensor {
    Tensor::from_slice(values)
}

pub(crate) fn values(x: &Tensor) -> Vec<f64> {
    Vec::try_from(x.to_kind(Kind::Double).reshape([-1])).unwrap()
}

pub(crate) fn largest(x: &Tensor) -> f64 {
    x.abs().max().double_value(&[])
}

/// Standard normal values of a shape.
pub(crate) fn random(seed: u64, shape: &[i64], kind: Kind) -> Tensor {
    SeededNoise::new(seed, 0).normal(&Tensor::empty(shape, (kind, Device::Cpu)))
}

/// The paper's cosine schedule.
pub(crate) fn cosine() -> Cosine {
    Cosine::new(-20.0, 20.0, TimeInput::T1000).unwrap()
}

/// The straight line between data and noise: no signal at t = 1, no noise at t = 0.
#[derive(Debug)]
pub(crate) struct Flow;

impl Schedule for Flow {
    fn at(&self, t: f64) -> NoiseLevel {
        NoiseLevel { t, alpha: 1.0 - t, sigma: t }
    }
    fn time_input(&self, t: f64) -> f64 {
        1000.0 * t
    }
    fn t_at(&self, log_snr: f64) -> f64 {
        1.0 / (1.0 + (0.5 * log_snr).exp())
    }
}

/// Variance-exploding, geometric in t, between the noise levels of EDM.
#[derive(Debug)]
pub(crate) struct Exploding;

impl Exploding {
    const MIN: f64 = 0.002;
    const MAX: f64 = 80.0;

    /// n steps, even in sigma^(1/7) (Karras et al. 2022, equation 5, arXiv:2206.00364).
    pub(crate) fn karras(n: usize) -> Vec<NoiseLevel> {
        let (first, last) = (Self::MAX.powf(1.0 / 7.0), Self::MIN.powf(1.0 / 7.0));
        let sigma = |i: usize| (first + (last - first) * i as f64 / n as f64).powi(7);
        (0..=n).map(|i| Exploding.at_log_snr(-2.0 * sigma(i).ln())).collect()
    }
}

impl Schedule for Exploding {
    fn at(&self, t: f64) -> NoiseLevel {
        NoiseLevel { t, alpha: 1.0, sigma: Self::MIN.powf(1.0 - t) * Self::MAX.powf(t) }
    }
    fn time_input(&self, t: f64) -> f64 {
        1000.0 * t
    }
    fn t_at(&self, log_snr: f64) -> f64 {
        let t = (-0.5 * log_snr - Self::MIN.ln()) / (Self::MAX / Self::MIN).ln();
        t.clamp(0.0, 1.0)
    }
}

/// Independent normal values.
#[derive(Debug)]
pub(crate) struct Gaussian {
    pub(crate) mean: Tensor,
    pub(crate) std: f64,
}

impl Gaussian {
    pub(crate) fn variance(&self, at: NoiseLevel) -> f64 {
        (at.alpha * self.std).powi(2) + at.sigma.powi(2)
    }
}

impl Denoiser for Gaussian {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        let gain = at.alpha * self.std.powi(2) / self.variance(at);
        Ok(&self.mean * (1.0 - gain * at.alpha) + x * gain)
    }
}

/// Mixes all values of a clip (b c f h w) nonlinearly.
#[derive(Debug)]
pub(crate) struct Mixing;

impl Denoiser for Mixing {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        let mean = x.mean_dim([1i64, 2, 3, 4].as_slice(), true, Kind::Double);
        Ok((x * at.alpha + mean * 3.0 + x.roll([1], [2]) * 0.5 + x.roll([1], [4]) * 0.3).tanh())
    }
}

/// Two Gaussians on the line: weight, mean, standard deviation.
#[derive(Debug)]
pub(crate) struct Mixture;

const PARTS: [(f64, f64, f64); 2] = [(0.3, -1.0, 0.4), (0.7, 0.8, 0.5)];

impl Mixture {
    /// For each component: the deviation of `x`, and the variance.
    fn parts(x: &Tensor, at: NoiseLevel) -> [(f64, f64, f64, Tensor, f64); 2] {
        PARTS.map(|(weight, mean, std)| {
            let variance = (at.alpha * std).powi(2) + at.sigma.powi(2);
            (weight, mean, std, x - at.alpha * mean, variance)
        })
    }

    /// The fraction of the noised density below `x`.
    pub(crate) fn below(x: &Tensor, at: NoiseLevel) -> Tensor {
        let shares = Self::parts(x, at).map(|(weight, _, _, off, variance)| {
            ((off / (2.0 * variance).sqrt()).erf() + 1.0) * (0.5 * weight)
        });
        let [a, b] = shares;
        a + b
    }

    /// Where the probability flow takes `x`: in one dimension it preserves the fraction below.
    pub(crate) fn flow(x: &Tensor, from: NoiseLevel, to: NoiseLevel) -> Tensor {
        let share = Self::below(x, from);
        let (mut low, mut high) = (x.zeros_like() - 20.0, x.zeros_like() + 20.0);
        for _ in 0..80 {
            let middle = (&low + &high) * 0.5;
            let less = Self::below(&middle, to).lt_tensor(&share);
            low = middle.where_self(&less, &low);
            high = high.where_self(&less, &middle);
        }
        (low + high) * 0.5
    }
}

impl Denoiser for Mixture {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        let parts = Self::parts(x, at).map(|(weight, mean, std, off, variance)| {
            let density = (off.square() * (-0.5 / variance)).exp() * (weight / variance.sqrt());
            (density, off * (at.alpha * std * std / variance) + mean)
        });
        let [(p, a), (q, b)] = parts;
        Ok((&p * a + &q * b) / (p + q))
    }
}

/// DPM-Solver++(2M), as implemented in another crate (Lu et al. 2022, arXiv:2211.01095).
#[derive(Debug)]
pub(crate) struct TwoSteps;

impl Sampler for TwoSteps {
    fn step(&self, x: &Tensor, over: &Interval<'_>, _: &mut dyn Noise) -> Result<Step> {
        let (from, to) = (over.from, over.to);
        let x0 = over.denoise(x, from)?;
        let mut held = x0.shallow_clone();
        if let (2, Some(before)) = (over.order(2), over.past.newest(1).next()) {
            let h = to.half_log_snr() - from.half_log_snr();
            let r = (from.half_log_snr() - before.at.half_log_snr()) / h;
            held = &x0 * (1.0 + 0.5 / r) - &before.x0 * (0.5 / r);
        }
        Ok(Step::new(moves::hold_x0(x, &held, from, to), x0))
    }
}

/// Draws the k-th unit vector: a state is then its exact coefficients on (1, start, every draw).
#[derive(Debug)]
pub(crate) struct Basis {
    pub(crate) drawn: i64,
}

impl Noise for Basis {
    fn normal(&mut self, like: &Tensor) -> Tensor {
        self.drawn += 1;
        unit(like.size()[0], self.drawn - 1)
    }
    fn uniform(&mut self, like: &Tensor) -> Tensor {
        like.zeros_like()
    }
}

/// Fails the test if any noise is requested.
#[derive(Debug)]
pub(crate) struct NoNoise;

impl Noise for NoNoise {
    fn normal(&mut self, _: &Tensor) -> Tensor {
        unreachable!("nothing random is due")
    }
    fn uniform(&mut self, _: &Tensor) -> Tensor {
        unreachable!("nothing random is due")
    }
}

/// The k-th unit vector of n.
pub(crate) fn unit(n: i64, k: i64) -> Tensor {
    let unit = Tensor::zeros([n], (Kind::Double, Device::Cpu));
    let _ = unit.get(k).fill_(1.0);
    unit
}

/// Samples without observing the steps.
pub(crate) fn run(
    sampler: &dyn Sampler,
    denoiser: &dyn Denoiser,
    schedule: &dyn Schedule,
    grid: &[NoiseLevel],
    x: &Tensor,
    noise: &mut dyn Noise,
) -> Tensor {
    let x = x.shallow_clone();
    sample(sampler, denoiser, schedule, grid, x, noise, &mut keep_going).unwrap()
}

/// n steps, even in log-SNR, over the paper's cosine.
pub(crate) fn even(n: usize) -> Vec<NoiseLevel> {
    Spacing::UniformLogSnr.grid(&cosine(), n).unwrap()
}

/// A network without parameters: its output differs for every sample, time and conditioning.
///
/// Records the batch and the times of every call.
#[derive(Debug, Default)]
pub(crate) struct Toy {
    pub(crate) conditional: bool,
    pub(crate) calls: Mutex<Vec<(Vec<i64>, Vec<f64>)>>,
}

impl Toy {
    pub(crate) fn conditional() -> Toy {
        Toy { conditional: true, ..Toy::default() }
    }

    /// The batch sizes of the calls so far.
    pub(crate) fn batches(&self) -> Vec<i64> {
        self.calls.lock().unwrap().iter().map(|(size, _)| size[0]).collect()
    }
}

impl Backbone for Toy {
    fn forward(
        &self,
        x: &Tensor,
        t: &Tensor,
        cond: &Cond,
        frames: &FrameMask,
        _: Option<&mut dyn Noise>,
    ) -> unet3d::Result<Tensor> {
        let b = x.size()[0];
        let per_frame = x.size().get(2).is_some_and(|f| t.size() == [b, *f]);
        if t.size() != [b] && !per_frame {
            return Err(unet3d::Error::custom(format!("t has shape {:?}", t.size())));
        }
        self.calls.lock().unwrap().push((x.size(), values(t)));
        let mut shape = vec![1; x.dim()];
        shape[0] = b;
        let mut times = shape.clone();
        if per_frame {
            times[2] = t.size()[1];
        }
        let times = (t * 1e-3).sin().view(times.as_slice());
        let mut rows = Tensor::zeros([b], (x.kind(), x.device()));
        if self.conditional {
            let null = Tensor::full([b], 0.3, (x.kind(), x.device()));
            rows += match (&cond.pooled, &cond.null) {
                (Some(pooled), None) => pooled.mean_dim(1, false, x.kind()),
                (Some(pooled), Some(mask)) => {
                    null.where_self(mask, &pooled.mean_dim(1, false, x.kind()))
                }
                (None, _) => null,
            };
        }
        if let FrameMask::Focus(focus) = frames {
            rows += focus.to_kind(x.kind()) * 0.2;
        }
        Ok((x * 0.7 + times + rows.view(shape.as_slice())).tanh())
    }

    fn is_conditional(&self) -> bool {
        self.conditional
    }
}
