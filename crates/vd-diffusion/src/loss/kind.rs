//! The distance between the network's output and its target.

use serde::{Deserialize, Serialize};
use tch::{Reduction, Tensor};

use crate::named::name_or_table;
use crate::parameterization::above_zero;
use crate::{Error, Result};

/// The distance of a predicted value from its target, as a function of their difference d.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LossKind {
    /// |d|: the default of `video-diffusion-pytorch`.
    L1,
    /// d^2: the paper's.
    #[default]
    L2,
    /// d^2 / 2 up to |d| = delta, linear with slope delta beyond.
    Huber {
        /// Where the linear part begins.
        #[serde(default = "default_delta")]
        delta: f64,
    },
}

name_or_table!(
    LossKind,
    "loss",
    [L1 => "l1", L2 => "l2"],
    [Huber => "huber"],
);

fn default_delta() -> f64 {
    1.0
}

impl LossKind {
    /// Refuses settings out of range.
    pub(crate) fn validate(self) -> Result<()> {
        match self {
            LossKind::Huber { delta } => above_zero("loss huber: delta", delta),
            _ => Ok(()),
        }
    }

    /// The distance of each value from its target.
    ///
    /// # Errors
    /// Tensors whose shapes differ.
    pub fn elementwise(self, out: &Tensor, target: &Tensor) -> Result<Tensor> {
        if out.size() != target.size() {
            let (expected, got) = (format!("{:?}", target.size()), format!("{:?}", out.size()));
            return Err(Error::tensor("prediction", format!("shape {expected}"), got));
        }
        Ok(match self {
            LossKind::L1 => out.f_sub(target)?.f_abs()?,
            LossKind::L2 => out.f_sub(target)?.f_square()?,
            LossKind::Huber { delta } => out.f_huber_loss(target, Reduction::None, delta)?,
        })
    }
}
