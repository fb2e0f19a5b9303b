//! What a network predicts, and how to read x0 and eps out of it.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::{Error, Levels, NoiseLevel, Result};

/// What a network predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parameterization {
    /// The noise (Ho et al. 2020, arXiv:2006.11239). Says nothing about x0 where alpha = 0.
    #[default]
    Epsilon,
    /// The clean tensor.
    X0,
    /// v = alpha eps - sigma x0 (Salimans & Ho 2022, arXiv:2202.00512).
    V,
    /// The velocity eps - x0 of a straight line (Lipman et al. 2023, arXiv:2210.02747).
    Flow,
}

impl Parameterization {
    /// What the network should have said.
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
            })
        })
    }

    /// The x0-hat of what the network said about `x`.
    ///
    /// # Errors
    /// Levels that do not fit the batch; epsilon where alpha = 0.
    pub fn to_x0(self, x: &Tensor, out: &Tensor, at: &Levels) -> Result<Tensor> {
        at.mix(x, out, |at| {
            let NoiseLevel { alpha, sigma, .. } = at;
            Ok(match self {
                Parameterization::Epsilon => {
                    needs_signal(at)?;
                    (1.0 / alpha, -sigma / alpha)
                }
                Parameterization::X0 => (0.0, 1.0),
                Parameterization::V => {
                    // The square is 1 where variance is preserved.
                    let square = alpha * alpha + sigma * sigma;
                    (alpha / square, -sigma / square)
                }
                Parameterization::Flow => (1.0 / (alpha + sigma), -sigma / (alpha + sigma)),
            })
        })
    }

    /// The eps-hat of what the network said about `x`.
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
            })
        })
    }
}

pub(crate) fn needs_signal(at: NoiseLevel) -> Result<()> {
    if at.alpha > 0.0 {
        return Ok(());
    }
    Err(Error::Level(format!(
        "parameterization epsilon: expected alpha > 0, got alpha = {} at t = {}: pure noise says \
         nothing about x0; predict v, x0 or flow, or end the schedule before pure noise",
        at.alpha, at.t
    )))
}

fn needs_noise(at: NoiseLevel) -> Result<()> {
    if at.sigma > 0.0 {
        return Ok(());
    }
    Err(Error::Level(format!(
        "parameterization x0: expected sigma > 0, got sigma = {} at t = {}: there is no noise to \
         tell there",
        at.sigma, at.t
    )))
}
