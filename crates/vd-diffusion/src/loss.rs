//! The distance between what the network said and what it should have said.

use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

use crate::named::name_or_table;
use crate::{Error, Result};

/// The distance of one predicted number from its target, d apart.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LossKind {
    /// |d|: the default of `video-diffusion-pytorch`.
    L1,
    /// d^2: the paper's.
    #[default]
    L2,
    /// d^2 / 2 up to |d| = delta, a line of slope delta beyond.
    Huber {
        /// Where the line begins.
        #[serde(default = "default_delta")]
        delta: f64,
    },
}

name_or_table!(
    LossKind,
    "the name of a loss, or a table with its `kind`",
    L1 => "l1",
    L2 => "l2",
);

fn default_delta() -> f64 {
    1.0
}

/// The loss of a batch.
#[derive(Debug)]
pub struct Loss {
    /// Mean over all numbers that count, a scalar to call `backward` on.
    pub mean: Tensor,
    /// Each sample's own mean, detached; 0 where nothing of the sample counts.
    ///
    /// # Shapes
    /// b
    pub per_sample: Tensor,
    /// The times that the batch was noised to, f64 on the CPU.
    ///
    /// # Shapes
    /// b, or b f
    pub t: Tensor,
}

impl LossKind {
    /// Refuses settings out of their range.
    pub(crate) fn validate(self) -> Result<()> {
        match self {
            LossKind::Huber { delta } if !(delta > 0.0 && delta.is_finite()) => {
                Err(Error::value("loss huber: delta", "a finite number above 0", delta))
            }
            _ => Ok(()),
        }
    }

    /// The distance of each number from its target.
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

/// The mean of what counts, and the detached mean of each sample.
///
/// # Errors
/// A mask that does not broadcast to the losses, or in which nothing counts.
pub(crate) fn reduce(losses: &Tensor, keep: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
    let b = losses.size().first().copied().unwrap_or(1);
    let rows = losses.detach().reshape([b, -1]);
    let Some(keep) = keep else {
        return Ok((losses.mean(losses.kind()), rows.mean_dim(1, false, losses.kind())));
    };
    let size = losses.size();
    let Ok(everywhere) = keep.f_broadcast_to(size.as_slice()) else {
        let expected = format!("a mask that broadcasts to {size:?}");
        return Err(Error::tensor("keep", expected, format!("{:?}", keep.size())));
    };
    // Counted where the mask lives: one made on the CPU costs no wait for the device.
    let counted = everywhere.sum(Kind::Double).double_value(&[]);
    if !(counted > 0.0 && counted.is_finite()) {
        let expected = "1 where a number counts and 0 elsewhere, with at least one that counts";
        return Err(Error::value("keep", expected, format!("a sum of {counted}")));
    }
    let everywhere = everywhere.to_kind(losses.kind()).to_device(losses.device());
    let mean = (losses * &everywhere).sum(losses.kind()) * (1.0 / counted);
    let keep_rows = everywhere.reshape([b, -1]);
    let in_sample = keep_rows.sum_dim_intlist(1, false, losses.kind());
    let sums = (rows * keep_rows).sum_dim_intlist(1, false, losses.kind());
    // A sample of which nothing counts has the sum 0, and is divided by 1.
    let own = sums / in_sample.where_scalarother(&in_sample.gt(0.0), 1.0);
    Ok((mean, own))
}
