//! What a network predicts, and how x0 and eps follow from it.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::named::name_or_table;
use crate::{Error, Levels, NoiseLevel, Result};

/// What a network predicts.
///
/// All of them are linear in x0 and eps, so an error of the output gives an error of x0-hat that is
/// [`x0_per_output`](Parameterization::x0_per_output) times as large.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Parameterization {
    /// The noise (Ho et al. 2020, arXiv:2006.11239). Does not determine x0 where alpha = 0. Written
    /// `epsilon` in a config, or `eps` for short.
    #[default]
    #[serde(alias = "eps")]
    Epsilon,
    /// The clean tensor.
    X0,
    /// v = alpha eps - sigma x0 (Salimans & Ho 2022, arXiv:2202.00512).
    V,
    /// The velocity eps - x0 of a straight line (Lipman et al. 2022, arXiv:2210.02747).
    Flow,
    /// The part of x0 that the noisy tensor does not already give: the network F of Karras et al.
    /// 2022, table 1, arXiv:2206.00364. Its input is x divided by the standard deviation of x, and
    /// its target has variance 1 at every level.
    ///
    /// The paper's x and sigma are x / alpha and sigma / alpha here. So x0 = (alpha sigma_data^2 /
    /// r^2) x + (sigma sigma_data / r) F(x / r), where r^2 = sigma^2 + alpha^2 sigma_data^2, under
    /// any schedule; both ends are regular.
    Edm {
        /// The standard deviation of the data.
        #[serde(default = "default_sigma_data")]
        sigma_data: f64,
    },
}

name_or_table!(
    Parameterization,
    "parameterization",
    [Epsilon => "epsilon", X0 => "x0", V => "v", Flow => "flow"],
    [Edm => "edm"],
);

/// The standard deviation of images in [-1, 1], as in Karras et al. 2022.
pub(crate) fn default_sigma_data() -> f64 {
    0.5
}

impl Parameterization {
    /// Refuses settings out of range.
    pub(crate) fn validate(self) -> Result<()> {
        match self {
            Parameterization::Edm { sigma_data } => {
                above_zero("parameterization edm: sigma_data", sigma_data)
            }
            _ => Ok(()),
        }
    }

    /// The network's input for a noisy tensor: the tensor itself, except for
    /// [`Edm`](Parameterization::Edm), which divides it by its standard deviation.
    ///
    /// # Errors
    /// Levels that do not fit the batch.
    pub fn shown(self, x: &Tensor, at: &Levels) -> Result<Tensor> {
        match self {
            Parameterization::Edm { sigma_data } => at.scaled(x, |at| 1.0 / spread(at, sigma_data)),
            _ => Ok(x.shallow_clone()),
        }
    }

    /// Change of x0-hat per unit change of the output; infinite for epsilon where alpha = 0.
    pub fn x0_per_output(self, at: NoiseLevel) -> f64 {
        let NoiseLevel { alpha, sigma, .. } = at;
        match self {
            Parameterization::Epsilon => -sigma / alpha,
            Parameterization::X0 => 1.0,
            // The sum of squares is 1 for variance-preserving schedules.
            Parameterization::V => -sigma / (alpha * alpha + sigma * sigma),
            Parameterization::Flow => -sigma / (alpha + sigma),
            Parameterization::Edm { sigma_data } => sigma * sigma_data / spread(at, sigma_data),
        }
    }

    /// The training target of the network.
    ///
    /// # Errors
    /// Levels that do not fit the batch; epsilon where alpha = 0.
    pub fn target(self, x0: &Tensor, eps: &Tensor, at: &Levels) -> Result<Tensor> {
        at.mix(x0, eps, |at| {
            Ok(match self {
                Parameterization::Epsilon => {
                    needs_signal(at)?;
                    (0.0, 1.0)
                }
                Parameterization::X0 => (1.0, 0.0),
                Parameterization::V => (-at.sigma, at.alpha),
                Parameterization::Flow => (-1.0, 1.0),
                Parameterization::Edm { sigma_data } => {
                    let d = spread(at, sigma_data);
                    (at.sigma / (sigma_data * d), -at.alpha * sigma_data / d)
                }
            })
        })
    }

    /// The x0-hat that corresponds to the network's output for `x`.
    ///
    /// # Errors
    /// Levels that do not fit the batch; epsilon where alpha = 0.
    pub fn to_x0(self, x: &Tensor, out: &Tensor, at: &Levels) -> Result<Tensor> {
        at.mix(x, out, |at| {
            let NoiseLevel { alpha, sigma, .. } = at;
            let of_x = match self {
                Parameterization::Epsilon => {
                    needs_signal(at)?;
                    1.0 / alpha
                }
                Parameterization::X0 => 0.0,
                Parameterization::V => alpha / (alpha * alpha + sigma * sigma),
                Parameterization::Flow => 1.0 / (alpha + sigma),
                Parameterization::Edm { sigma_data } => {
                    let d = spread(at, sigma_data);
                    alpha * (sigma_data / d).powi(2)
                }
            };
            Ok((of_x, self.x0_per_output(at)))
        })
    }

    /// The eps-hat that corresponds to the network's output for `x`.
    ///
    /// # Errors
    /// Levels that do not fit the batch; x0 where sigma = 0.
    pub fn to_eps(self, x: &Tensor, out: &Tensor, at: &Levels) -> Result<Tensor> {
        at.mix(x, out, |at| {
            let NoiseLevel { alpha, sigma, .. } = at;
            Ok(match self {
                Parameterization::Epsilon => (0.0, 1.0),
                Parameterization::X0 => {
                    needs_noise(at)?;
                    (1.0 / sigma, -alpha / sigma)
                }
                Parameterization::V => {
                    let square = alpha * alpha + sigma * sigma;
                    (sigma / square, alpha / square)
                }
                Parameterization::Flow => (1.0 / (alpha + sigma), alpha / (alpha + sigma)),
                Parameterization::Edm { sigma_data } => {
                    let d = spread(at, sigma_data);
                    (sigma / (d * d), -alpha * sigma_data / d)
                }
            })
        })
    }
}

/// The standard deviation of x for data of standard deviation `sigma_data`.
fn spread(at: NoiseLevel, sigma_data: f64) -> f64 {
    at.sigma.hypot(at.alpha * sigma_data)
}

/// Refuses numbers that are not finite and positive.
pub(crate) fn above_zero(what: &str, value: f64) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(Error::value(what, "a finite number above 0", value))
}

pub(crate) fn needs_signal(at: NoiseLevel) -> Result<()> {
    if at.alpha > 0.0 {
        return Ok(());
    }
    Err(Error::Level(format!(
        "parameterization epsilon: expected alpha > 0, got alpha = {} at t = {}: pure noise holds \
         no information about x0; predict v, x0 or flow, or end the schedule before pure noise",
        at.alpha, at.t
    )))
}

fn needs_noise(at: NoiseLevel) -> Result<()> {
    if at.sigma > 0.0 {
        return Ok(());
    }
    Err(Error::Level(format!(
        "parameterization x0: expected sigma > 0, got sigma = {} at t = {}: there is no noise to \
         predict there",
        at.sigma, at.t
    )))
}
