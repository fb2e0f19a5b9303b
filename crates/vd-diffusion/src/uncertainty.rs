//! A learned weight for every noise level.

use std::f64::consts::TAU;

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::torch::upload;
use vd_tensor_ops::{Init, Noise, Scope, SeededNoise};

use crate::{Error, Levels, Result};

/// The network's uncertainty u at each noise level, learned together with the network: the loss
/// becomes loss / exp(u) + u, so that all levels come to have equal weight.
///
/// u is a linear function of cosines of the log-SNR, and 0 before training, so it has no effect at
/// first. Its parameters are trained with those of the network and not used in sampling.
///
/// # Reference
/// Karras et al. 2024, equation 21, arXiv:2312.02696; its clock, ln(sigma) / 4, is
/// -log-SNR / 8 here.
#[derive(Debug)]
pub struct Uncertainty {
    /// Both n: fixed.
    frequencies: Tensor,
    phases: Tensor,
    /// n, trained.
    weight: Tensor,
}

impl Uncertainty {
    /// Declares its parameters: `frequencies` and `phases`, fixed, and `weight`.
    ///
    /// # Range
    /// `channels` is at least 1; 128 in the paper.
    ///
    /// # Errors
    /// No channels; parameter names that are already taken.
    pub fn new(scope: &mut Scope<'_>, channels: i64) -> Result<Self> {
        if channels < 1 {
            return Err(Error::value("uncertainty: channels", "at least 1", channels));
        }
        // The same frequencies in every run: they should not depend on the seed.
        let like = Tensor::empty([channels], (Kind::Double, Device::Cpu));
        let mut noise = SeededNoise::new(0, 0);
        let frequencies = scope.fixed("frequencies", &(noise.normal(&like) * TAU))?;
        let phases = scope.fixed("phases", &(noise.uniform(&like) * TAU))?;
        let weight = scope.param("weight", &[channels], Init::Const(0.0))?;
        Ok(Uncertainty { frequencies, phases, weight })
    }

    /// u of every level, differentiable in the parameters.
    ///
    /// # Shapes
    /// Result: scalar, b, or b f, as the levels
    ///
    /// # Errors
    /// Any libtorch error.
    pub fn of(&self, levels: &Levels) -> Result<Tensor> {
        // Without signal or noise the log-SNR is infinite: such levels share the u of a log-SNR of
        // -40 or 40.
        let clock = levels.log_snr().f_clamp(-40.0, 40.0)?.f_mul_scalar(-0.125)?;
        let clock = upload(&clock.to_kind(self.weight.kind()), self.weight.device())?;
        let angle = clock.f_unsqueeze(-1)?.f_mul(&self.frequencies)?.f_add(&self.phases)?;
        // Features have mean square 1 / n, so the size of u does not depend on their number.
        let size = self.weight.numel() as f64;
        let features = angle.f_cos()?.f_mul_scalar((2.0 / size).sqrt())?;
        Ok(features.f_mul(&self.weight)?.f_sum_dim_intlist(-1, false, self.weight.kind())?)
    }

    /// loss / exp(u) + u, elementwise.
    pub(crate) fn apply(&self, losses: &Tensor, levels: &Levels) -> Result<Tensor> {
        let u = self.of(levels)?.to_kind(losses.kind()).to_device(losses.device());
        let u = levels.spread_over(losses, &u)?;
        Ok(losses.f_mul(&u.f_neg()?.f_exp()?)?.f_add(&u)?)
    }
}
