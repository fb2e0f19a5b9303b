//! Reconstruction guidance: samples the rest of a clip of which a part is known.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};
use vd_tensor_ops::Noise;

use super::known::{Known, Term};
use super::steps::Steps;
use crate::{Denoiser, Error, Levels, NoiseLevel, Progress, Result};

/// How the known part guides the rest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReconstructionConfig {
    /// The paper's w_r, 0 for no gradient. The paper finds values above 1 better (9 and 50 in its
    /// tables); the default here is 2, as the paper gives none for its text models.
    pub weight: f64,
    /// Whether the known part of every state is replaced by a sample of q(x_t | x0).
    pub replace: bool,
    /// The gradient is computed in every `every`-th step of a run, starting with the first, at each
    /// evaluation within the step, and weighted for all steps up to the next such one; in the other
    /// steps x0-hat is the inner one.
    ///
    /// At 2 and 4, with replacement, the mean in the example of [`Reconstruction`] with correlation
    /// .9 stays within .04 of that at 1 (64 steps even in t or in log-SNR, w_r = 2; halving the
    /// weight changes it by .12). At 8 it is off by up to .23 on steps even in log-SNR, which are
    /// too long for this; without replacement this already happens at 4.
    pub every: usize,
}

impl Default for ReconstructionConfig {
    fn default() -> Self {
        ReconstructionConfig { weight: 2.0, replace: true, every: 1 }
    }
}

/// A denoiser for clips of which a part is known; its samples agree with that part.
///
/// Two mechanisms, separately or together. Replacement sets the known part of every state to a
/// sample of q(x_t | x0). The gradient mechanism moves x0-hat by -(w_r alpha / 2) times the
/// gradient, through the network, of the sum of squared differences between the inner x0-hat and
/// the known values. Any number of [`Known`] terms are added, each with its own factor of w_r; if
/// two give the same value, the last one is used for replacement. A smaller copy
/// ([`Downscale`](crate::Downscale)) cannot replace values: it acts through the gradient only.
///
/// With replacement, the known part of x0-hat is set to the known values, so that samplers that
/// evaluate twice in a step, or use past states, see it correctly noised. Without replacement, the
/// gradient moves the known part too.
///
/// The method is biased, and its weight must be tuned: for a pair of standard normal values with
/// correlation .5, the first known to be 1.2, the true mean of the second is .600; 128 ancestral
/// steps give .319 by replacement alone, .419 at w_r = 1 and .514 at 2. At correlation .9 it is
/// 1.080, and .746, .907 and 1.024. Higher weights eventually overshoot.
///
/// At low noise, where a network nearly returns its input, one gradient step leaves 1 - w_r of a
/// deviation without replacement, and 1 - w_r / k^2 of that of a copy downscaled by area (k its
/// factor): there weights of 1 and k^2 match the known values exactly, and twice these no longer
/// converge.
///
/// Make it the outermost wrapper, around thresholds: the gradient passes through their clamps (it
/// is 0 where they clamp). A threshold around it would clamp the gradient's correction. It is
/// differentiable in `x`, at the price of second derivatives; an `x` that requires no gradient gets
/// none. The network's parameters never get a gradient.
///
/// ```
/// use vd_diffusion::tch::{Device, Kind, Tensor};
/// use vd_diffusion::{
///     Ancestral, Known, Reconstruction, ReconstructionConfig, Result, SeededNoise, Threshold,
///     Thresholded, keep_going, sample, start,
/// };
/// # use vd_diffusion::{Backbone, Cond, Diffusion, DiffusionConfig, FrameMask, Noise, Spacing};
/// # #[derive(Debug)]
/// # struct Network;
/// # impl Backbone for Network {
/// #     fn forward(
/// #         &self, x: &Tensor, _: &Tensor, _: &Cond, _: &FrameMask, _: Option<&mut dyn Noise>,
/// #     ) -> vd_diffusion::unet3d::Result<Tensor> {
/// #         Ok(x.tanh() + x.mean_dim(2, true, x.kind()))
/// #     }
/// # }
///
/// # fn main() -> Result<()> {
/// # let (network, diffusion) = (Network, Diffusion::new(&DiffusionConfig::default())?);
/// # let grid = Spacing::UniformT.grid(diffusion.schedule(), 8)?;
/// // The last two of 8 frames are the first two of the next clip, of the same length.
/// let clip = Tensor::zeros([1, 3, 8, 4, 4], (Kind::Float, Device::Cpu)); // b c f h w
/// let known = Known::frames(clip.narrow(2, 6, 2), vec![0, 1]);
/// let denoiser = diffusion.denoiser(&network, Cond::none(), FrameMask::All);
/// let denoiser = Thresholded::new(denoiser, Threshold::Static)?;
/// let config = ReconstructionConfig { weight: 2.0, ..Default::default() };
/// let denoiser = Reconstruction::new(denoiser, vec![known], &clip.size(), config)?;
/// let mut noise = SeededNoise::new(7, 0);
/// let x = start(&clip, grid[0], &mut noise);
/// let (sampler, schedule) = (Ancestral { gamma: 0.1 }, diffusion.schedule());
/// let next = sample(&sampler, &denoiser, schedule, &grid, x, &mut noise, &mut keep_going)?;
/// assert_eq!(next.narrow(2, 0, 2), clip.narrow(2, 6, 2));
/// let longer = Tensor::cat(&[&clip, &next.narrow(2, 2, 6)], 2); // 14 frames
/// # assert_eq!(longer.size(), [1, 3, 14, 4, 4]);
/// # Ok(())
/// # }
/// ```
///
/// # Reference
/// Ho et al. 2022, section 3.1, equation 7, arXiv:2204.03458.
#[derive(Debug)]
pub struct Reconstruction<D> {
    inner: D,
    terms: Vec<Term>,
    /// For replacement: where the clip is known (bool), and the clip.
    replaced: Option<(Tensor, Tensor)>,
    shape: Vec<i64>,
    config: ReconstructionConfig,
    steps: Steps,
}

impl<D: Denoiser> Reconstruction<D> {
    /// Wraps a denoiser of states of this shape with known parts.
    ///
    /// # Shapes
    /// `shape`: b ..., b c f h w for clips
    ///
    /// # Errors
    /// No known terms; an empty shape; a weight that is negative or not finite; `every` = 0; values
    /// or a mask that do not fit the shape; frames outside the clip; a downscaling factor that does
    /// not divide its size; a smaller copy where no gradient is used.
    pub fn new(
        inner: D,
        known: Vec<Known>,
        shape: &[i64],
        config: ReconstructionConfig,
    ) -> Result<Self> {
        let ReconstructionConfig { weight, replace, every } = config;
        if !(weight >= 0.0 && weight.is_finite()) {
            let expected = "a finite number from 0 (no gradient)";
            return Err(Error::value("reconstruction: weight", expected, weight));
        }
        if every == 0 {
            return Err(Error::value("reconstruction: every", "at least 1", every));
        }
        let terms =
            known.into_iter().map(|known| known.resolve(shape)).collect::<Result<Vec<_>>>()?;
        let Some(first) = terms.first() else {
            return Err(Error::value("reconstruction: known", "at least one term", 0));
        };
        for term in &terms {
            fits(term.x0(), &term.x0().size(), first.x0())?;
        }
        let idle = |term: &Term| !term.is_exact() && weight * term.weight() == 0.0;
        if replace && terms.iter().any(idle) {
            let expected = "more than 0 for a smaller copy, which acts only through the gradient";
            return Err(Error::value("reconstruction: weight", expected, weight));
        }
        let replaced = if replace { replacement(&terms, shape)? } else { None };
        let shape = shape.to_vec();
        Ok(Reconstruction { inner, terms, replaced, shape, config, steps: Steps::default() })
    }

    fn guide(
        &self,
        x: &Tensor,
        at: &Levels,
        inner: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        self.check(x)?;
        let weight = self.config.weight * self.steps.stands_for(self.config.every) as f64;
        let due = weight > 0.0 && at.values().iter().any(|at| at.alpha > 0.0);
        let x0 = if due { self.pulled(x, at, weight, inner)? } else { inner(x)? };
        match &self.replaced {
            Some((mask, known)) => Ok(known.f_where_self(mask, &x0)?),
            None => Ok(x0),
        }
    }

    /// x0-hat - (weight alpha / 2) grad.
    fn pulled(
        &self,
        x: &Tensor,
        at: &Levels,
        weight: f64,
        inner: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        // If the caller differentiates through this, the gradient needs a gradient of its own.
        let traced = x.requires_grad();
        tch::with_grad(|| {
            let x = if traced { x.shallow_clone() } else { x.detach().set_requires_grad(true) };
            let x0 = inner(&x)?;
            if !x0.requires_grad() {
                return Ok(x0); // it does not depend on x
            }
            let mut miss = Tensor::f_zeros([], (x0.kind(), x0.device()))?;
            for term in &self.terms {
                miss = miss.f_add(&term.miss(&x0)?.f_mul_scalar(term.weight())?)?;
            }
            let gradients = Tensor::f_run_backward(&[miss], &[&x], traced, traced)?;
            let x0 = if traced { x0 } else { x0.detach() };
            match gradients.first() {
                Some(gradient) if gradient.defined() => {
                    let half = -0.5 * weight;
                    at.mix(&x0, gradient, |at| Ok((1.0, half * at.alpha)))
                }
                _ => Ok(x0),
            }
        })
    }

    fn check(&self, x: &Tensor) -> Result<()> {
        self.terms.first().map_or(Ok(()), |term| fits(x, &self.shape, term.x0()))
    }
}

impl<D: Denoiser> Denoiser for Reconstruction<D> {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        self.guide(x, &Levels::from(at), |x| self.inner.denoise(x, at))
    }

    fn denoise_levels(&self, x: &Tensor, at: &Levels) -> Result<Tensor> {
        self.guide(x, at, |x| self.inner.denoise_levels(x, at))
    }

    fn constrain(&self, x: Tensor, at: NoiseLevel, noise: &mut dyn Noise) -> Result<Tensor> {
        let x = self.inner.constrain(x, at, noise)?;
        self.check(&x)?;
        let Some((mask, known)) = &self.replaced else {
            return Ok(x);
        };
        let mut drawn = known.f_mul_scalar(at.alpha)?;
        if at.sigma > 0.0 {
            drawn = drawn.f_add(&noise.normal(&x).f_mul_scalar(at.sigma)?)?;
        }
        Ok(drawn.f_where_self(mask, &x)?)
    }

    fn follow(&self, progress: Progress) {
        self.steps.follow(progress);
        self.inner.follow(progress);
    }
}

/// Where the clip itself is known, and its values there.
fn replacement(terms: &[Term], shape: &[i64]) -> Result<Option<(Tensor, Tensor)>> {
    let mut exact = terms.iter().filter(|term| term.is_exact()).peekable();
    let Some(like) = exact.peek().map(|term| term.x0()) else {
        return Ok(None);
    };
    let mut clip = Tensor::f_zeros(shape, (like.kind(), like.device()))?;
    let mut mask = Tensor::f_zeros(shape, (Kind::Bool, like.device()))?;
    for term in exact {
        (clip, mask) = term.write(clip, mask)?;
    }
    Ok(Some((mask, clip)))
}

/// Refuses a tensor of another shape, kind or device than the known values.
pub(super) fn fits(x: &Tensor, shape: &[i64], like: &Tensor) -> Result<()> {
    let (kind, device) = (like.kind(), like.device());
    if x.size() == shape && x.kind() == kind && x.device() == device {
        return Ok(());
    }
    let expected = format!("shape {shape:?}, {kind:?} on {device:?}, like the known values");
    let got = format!("{:?}, {:?} on {:?}", x.size(), x.kind(), x.device());
    Err(Error::tensor("state", expected, got))
}
