//! Likelihood of data under a diffusion model.

use tch::{Kind, Tensor};
use vd_tensor_ops::Noise;

use crate::grid::check_grid;
use crate::sampler::Watch;
use crate::{Denoiser, Error, NoiseLevel, Progress, Result, Schedule};

/// Settings of [`log_likelihood`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Likelihood {
    /// Random vectors that estimate the trace of the Jacobian.
    pub probe: Probe,
    /// Number of probes: the variance of the estimate is proportional to its inverse, the cost to
    /// the number.
    pub probes: usize,
    /// How the flow is integrated.
    pub integrator: Integrator,
}

impl Default for Likelihood {
    fn default() -> Self {
        Likelihood { probe: Probe::Rademacher, probes: 1, integrator: Integrator::Heun }
    }
}

/// Random vectors of unit covariance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Random signs: the least variance, and none if the Jacobian is diagonal.
    Rademacher,
    /// Standard normal values.
    Normal,
}

/// An integration rule for one interval of the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integrator {
    /// The trapezoidal rule, of order 2: two evaluations, both at levels of the grid.
    Heun,
    /// The classical Runge-Kutta rule, of order 4: four evaluations, two of them at a level between
    /// those of the grid.
    Rk4,
}

/// Result of [`log_likelihood`].
#[derive(Debug)]
pub struct LogLikelihood {
    /// The log-density of every sample, in nats, f64.
    ///
    /// # Shapes
    /// b
    pub nats: Tensor,
    /// The state to which the flow takes every sample, at the first level of the grid.
    ///
    /// # Shapes
    /// b ..., as the samples
    pub latent: Tensor,
    /// Number of values in a sample.
    pub dimensions: i64,
}

impl LogLikelihood {
    /// Minus the base-2 logarithm of the density, divided by the number of dimensions.
    ///
    /// The density is over real numbers: for 8-bit pixels that were mapped to [-1, 1] (and
    /// dequantised) add log2(127.5) = 6.99 bits, for the spacing of their grid.
    ///
    /// # Shapes
    /// Result: b, f64
    pub fn bits_per_dim(&self) -> Tensor {
        &self.nats * (-1.0 / (self.dimensions.max(1) as f64 * std::f64::consts::LN_2))
    }
}

/// The log-density of each sample under the probability flow that ends at the grid's last level.
///
/// The flow is integrated from the last level up to the first, along y = x / (alpha + sigma) as a
/// function of s = sigma / (alpha + sigma), which stays finite where there is no signal. Its
/// derivative is dy/ds = (y - x0-hat) / s; its divergence is estimated (Hutchinson) with the same
/// `probes` at all levels. At the first level the density is the normal one that
/// [`start`](crate::start) samples from. Each row has its own probes, so a result does not depend
/// on its batch.
///
/// # Shapes
/// `x`: b ..., data at the last level of the grid: alpha x0 + sigma eps
///
/// # Range
/// The last level needs sigma > 0, as a network is never shown clean data: if a grid ends clean,
/// omit its last level.
///
/// # Errors
/// No probes; a grid of fewer than two levels, with noise that does not fall, or that ends clean;
/// an `x` that is not f32 or f64; any error of the denoiser; an x0-hat without a gradient with
/// respect to x; [`Error::NotFinite`] as in [`sample`](crate::sample).
///
/// # Reference
/// Song et al. 2021, section 4.3 and appendix D.2, arXiv:2011.13456; Grathwohl et al. 2019,
/// section 3.1, arXiv:1810.01367.
pub fn log_likelihood(
    settings: &Likelihood,
    denoiser: &dyn Denoiser,
    schedule: &dyn Schedule,
    grid: &[NoiseLevel],
    x: &Tensor,
    noise: &mut dyn Noise,
) -> Result<LogLikelihood> {
    check_grid(grid)?;
    crate::diffusion::check_kind("x", x)?;
    let (first, last) = (grid[0], grid[grid.len() - 1]);
    if last.sigma == 0.0 {
        let expected = "a last level with sigma above 0 (omit the clean one)";
        return Err(Error::value("grid of a log-likelihood", expected, "sigma 0"));
    }
    denoiser.follow(Progress::Inverting { steps: grid.len() - 1 });
    let flow = Flow { denoiser, probes: settings.draw(x, noise)? };
    let scale = |at: NoiseLevel| at.alpha + at.sigma;
    let mut now = State { y: x.detach() / scale(last), gained: per_sample(&x.detach()) * 0.0 };
    let mut watch = Watch::new(grid.len() - 1, x.device());
    watch.see(&now.sum(), last)?;
    for pair in grid.windows(2).rev() {
        now = flow.cross(settings.integrator, schedule, now, pair[1], pair[0])?;
        denoiser.follow(Progress::Step);
        watch.see(&now.sum(), pair[0])?;
    }
    watch.end()?;
    let latent = now.y * scale(first);
    let dimensions = x.size().iter().skip(1).product::<i64>();
    // The normal density at the start of sampling, and the change from x to y at both ends.
    let variance = first.alpha.powi(2) + first.sigma.powi(2);
    let constant =
        0.5 * (std::f64::consts::TAU * variance).ln() - scale(first).ln() + scale(last).ln();
    let start = per_sample(&latent.square()) * (-0.5 / variance);
    let nats = start + now.gained - constant * dimensions as f64;
    Ok(LogLikelihood { nats, latent, dimensions })
}

impl Likelihood {
    fn draw(&self, x: &Tensor, noise: &mut dyn Noise) -> Result<Vec<Tensor>> {
        if self.probes == 0 {
            return Err(Error::value("probes of a log-likelihood", "at least 1", 0));
        }
        let one = |_| match self.probe {
            Probe::Normal => noise.normal(x),
            Probe::Rademacher => noise.uniform(x).lt(0.5).to_kind(x.kind()) * 2.0 - 1.0,
        };
        Ok((0..self.probes).map(one).collect())
    }
}

/// A point of the flow, and the log-density accumulated on the way to it.
struct State {
    y: Tensor,
    gained: Tensor,
}

impl State {
    /// A number that is finite if all of the state is.
    fn sum(&self) -> Tensor {
        self.y.sum(Kind::Double) + self.gained.sum(Kind::Double)
    }

    /// A step of length `by` along a derivative.
    fn along(&self, slope: &State, by: f64) -> State {
        State { y: &self.y + &slope.y * by, gained: &self.gained + &slope.gained * by }
    }
}

struct Flow<'a> {
    denoiser: &'a dyn Denoiser,
    probes: Vec<Tensor>,
}

impl Flow<'_> {
    /// Crosses one interval of the grid, towards noise.
    fn cross(
        &self,
        integrator: Integrator,
        schedule: &dyn Schedule,
        now: State,
        from: NoiseLevel,
        to: NoiseLevel,
    ) -> Result<State> {
        let (start, end) = (share(from), share(to));
        let h = end - start;
        let a = self.slope(&now, from)?;
        if integrator == Integrator::Heun {
            let b = self.slope(&now.along(&a, h), to)?;
            return Ok(now.along(&a, 0.5 * h).along(&b, 0.5 * h));
        }
        let middle = 0.5 * (start + end);
        let at = schedule.at_log_snr(2.0 * ((1.0 - middle) / middle).ln());
        let b = self.slope(&now.along(&a, 0.5 * h), at)?;
        let c = self.slope(&now.along(&b, 0.5 * h), at)?;
        let d = self.slope(&now.along(&c, h), to)?;
        let ends = now.along(&a, h / 6.0).along(&d, h / 6.0);
        Ok(ends.along(&b, h / 3.0).along(&c, h / 3.0))
    }

    /// dy/ds and its divergence.
    fn slope(&self, now: &State, at: NoiseLevel) -> Result<State> {
        let (s, scale) = (share(at), at.alpha + at.sigma);
        let (x0, trace) = self.denoise(&(&now.y * scale), at)?;
        let dimensions = now.y.size().iter().skip(1).product::<i64>() as f64;
        Ok(State { y: (&now.y - x0) / s, gained: (trace * -scale + dimensions) / s })
    }

    /// x0-hat, and the trace of its Jacobian in x: the mean over the probes p of p' J p.
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<(Tensor, Tensor)> {
        let x = x.detach().set_requires_grad(true);
        let x0 = tch::with_grad(|| self.denoiser.denoise(&x, at))?;
        if x0.size() != x.size() {
            let (expected, got) = (format!("{:?}", x.size()), format!("{:?}", x0.size()));
            return Err(Error::tensor("x0-hat of the denoiser", expected, got));
        }
        if !x0.requires_grad() {
            let (expected, got) = ("differentiable in x", "detached from x");
            return Err(Error::tensor("x0-hat of the denoiser", expected, got));
        }
        let mut trace = per_sample(&x.detach()) * 0.0;
        for (k, probe) in self.probes.iter().enumerate() {
            let seen = tch::with_grad(|| (&x0 * probe).f_sum(x0.kind()))?;
            // The graph is needed until the last probe.
            let keep = k + 1 < self.probes.len();
            let pulled = Tensor::f_run_backward(&[seen], &[&x], keep, false)?;
            let [pulled] = &pulled[..] else {
                return Err(Error::custom(
                    "libtorch returned no gradient of x0-hat with respect to x",
                ));
            };
            trace += per_sample(&(pulled * probe));
        }
        Ok((x0.detach(), trace / self.probes.len() as f64))
    }
}

/// sigma / (alpha + sigma).
fn share(at: NoiseLevel) -> f64 {
    at.sigma / (at.alpha + at.sigma)
}

/// Sums over all axes except the batch, in f64.
fn per_sample(x: &Tensor) -> Tensor {
    let x = x.to_kind(Kind::Double);
    let rest: Vec<i64> = (1..x.dim() as i64).collect();
    // libtorch takes an empty list of axes to mean all of them.
    if rest.is_empty() { x } else { x.sum_dim_intlist(rest, false, Kind::Double) }
}
