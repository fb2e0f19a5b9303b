//! Masked means.

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::torch::upload;

use crate::{Error, Levels, Result};

/// The means of a batch of distances.
#[derive(Debug)]
pub(crate) struct Means {
    /// Of each sample, detached: b.
    pub(crate) per_sample: Tensor,
    /// Of each level, detached: b, or b f.
    pub(crate) per_level: Tensor,
    /// How many values of each level count, f64 on the CPU: shaped as `per_level`.
    pub(crate) counts: Tensor,
    /// The mask, 1 or 0 for every value, of the kind and on the device of the losses, and the total
    /// that count.
    everywhere: Option<(Tensor, f64)>,
}

/// The values that count, 1 or 0 for every value of `x`: the mask, except in clean frames. `None`
/// if everything counts; NaN where the mask is neither 0 nor 1.
///
/// # Errors
/// A mask that does not broadcast to `x`; only clean frames.
pub(crate) fn counting(
    x: &Tensor,
    keep: Option<&Tensor>,
    levels: &Levels,
) -> Result<Option<Tensor>> {
    let size = x.size();
    let keep = match keep {
        None => None,
        Some(keep) => Some(zero_or_one(keep)?.f_broadcast_to(size.as_slice()).map_err(|_| {
            let expected = format!("a mask that broadcasts to {size:?}");
            Error::tensor("keep", expected, format!("{:?}", keep.size()))
        })?),
    };
    let Some(noisy) = levels.noisy(x)? else { return Ok(keep) };
    if levels.values().iter().all(|at| at.sigma == 0.0) {
        return Err(Error::value("times t", "at least one frame with t > 0", "0 for every frame"));
    }
    Ok(Some(match keep {
        None => noisy.f_broadcast_to(size.as_slice())?,
        Some(keep) => keep.f_mul(&upload(&noisy.f_to_kind(x.kind())?, keep.device())?)?,
    }))
}

/// The mask with NaN where it is neither 0 nor 1. The sum of the mask shows whether there are any,
/// so that this check needs no device synchronisation beyond the one for the sum.
fn zero_or_one(keep: &Tensor) -> Result<Tensor> {
    if keep.kind() == Kind::Bool {
        return Ok(keep.shallow_clone());
    }
    let fits = keep.f_eq(0)?.f_logical_or(&keep.f_eq(1)?)?;
    Ok(keep.f_to_kind(Kind::Float)?.f_where_scalarother(&fits, f64::NAN)?)
}

/// The means of `losses` and the number of values that count.
///
/// # Errors
/// A mask in which nothing counts, or which has values other than 0 and 1.
pub(crate) fn reduce(losses: &Tensor, counting: Option<&Tensor>, levels: &Levels) -> Result<Means> {
    let losses = losses.detach();
    let size = losses.size();
    // The axes within a level: all but the first, and but the third if every frame has its own
    // level.
    let within: Vec<i64> =
        (1..losses.dim() as i64).filter(|axis| !(levels.is_per_frame() && *axis == 2)).collect();
    let axes = within.as_slice();
    let sum = |x: &Tensor, kind: Kind| match axes {
        [] => x.to_kind(kind),
        _ => x.sum_dim_intlist(axes, false, kind),
    };
    let b = size.first().copied().unwrap_or(1);
    let rows = losses.reshape([b, -1]);
    let kind = losses.kind();
    let Some(everywhere) = counting else {
        let per_sample = rows.mean_dim(1, false, kind);
        let each = within.iter().map(|axis| size[*axis as usize]).product::<i64>() as f64;
        let per_level = match levels.is_per_frame() {
            true => sum(&losses, kind) * (1.0 / each),
            false => per_sample.shallow_clone(),
        };
        let counts = Tensor::full(per_level.size(), each, (Kind::Double, Device::Cpu));
        return Ok(Means { per_sample, per_level, counts, everywhere: None });
    };
    // Counted on the mask's device: a mask on the CPU needs no device synchronisation.
    let counts = sum(everywhere, Kind::Double).to_device(Device::Cpu);
    let total = counts.sum(Kind::Double).double_value(&[]);
    let got = if total.is_nan() { "other numbers" } else { "none" };
    if total.is_nan() || total <= 0.0 {
        let expected = "1 where a value counts and 0 elsewhere, with at least one that counts";
        return Err(Error::value("keep", expected, got));
    }
    let everywhere = upload(everywhere, losses.device())?.to_kind(kind);
    // Where nothing counts the sum is 0, and is divided by 1.
    let mean = |sum: Tensor, of: Tensor| sum / of.where_scalarother(&of.gt(0.0), 1.0);
    let keep_rows = everywhere.reshape([b, -1]);
    let in_sample = keep_rows.sum_dim_intlist(1, false, kind);
    let per_sample = mean((rows * keep_rows).sum_dim_intlist(1, false, kind), in_sample);
    let per_level = match levels.is_per_frame() {
        true => {
            let of = upload(&counts.to_kind(kind), losses.device())?;
            mean(sum(&(&losses * &everywhere), kind), of)
        }
        false => per_sample.shallow_clone(),
    };
    Ok(Means { per_sample, per_level, counts, everywhere: Some((everywhere, total)) })
}

impl Means {
    /// The mean of all values of `losses` that count, differentiable.
    pub(crate) fn overall(&self, losses: &Tensor) -> Tensor {
        let kind = losses.kind();
        match &self.everywhere {
            None => losses.mean(kind),
            Some((everywhere, total)) => (losses * everywhere).sum(kind) * (1.0 / total),
        }
    }
}
