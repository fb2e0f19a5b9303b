//! What a caller may ask of one evaluation of the loss.

use std::cell::Cell;

use tch::Tensor;
use vd_tensor_ops::{FrameMask, Noise};

use crate::{Error, Levels, NoiseLevel, Result, Uncertainty};

/// Optional inputs of one evaluation of the loss.
#[derive(Default)]
pub struct LossRequest<'a> {
    /// Which frames see each other along time; `None`: all of them.
    pub frames: Option<&'a FrameMask>,
    /// 1 (or true) where a number counts, 0 where it does not; `None` counts everything. Other
    /// numbers are refused: [`Weighting`](crate::Weighting) sets how much a level counts. A mask on the CPU causes no
    /// device synchronisation.
    ///
    /// # Shapes
    /// Any shape that broadcasts to `x0`
    pub keep: Option<&'a Tensor>,
    /// Times to train at, instead of random ones.
    ///
    /// # Shapes
    /// b, or b f for one noise level per frame of an `x0` that is b c f ... A frame at t = 0 is
    /// context: it is shown clean and its own loss does not count. The network gets the schedule's
    /// time input for t = 0; for a table of N entries that is -1, which no noisy frame has.
    pub t: Option<&'a Tensor>,
    /// Learned uncertainty that divides the loss of each level, trained together with the network;
    /// `None` for none.
    pub uncertainty: Option<&'a Uncertainty>,
    /// A factor of the loss at each noise level, in addition to the [`Weighting`](crate::Weighting): finite and not
    /// negative. It is not asked for clean frames.
    pub weight: Option<&'a dyn Fn(NoiseLevel) -> f64>,
    /// The stream for the network's dropout masks; `None`: evaluation.
    pub train: Option<&'a mut dyn Noise>,
}

impl std::fmt::Debug for LossRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LossRequest")
            .field("frames", &self.frames)
            .field("keep", &self.keep)
            .field("t", &self.t)
            .field("uncertainty", &self.uncertainty)
            .field("weight", &self.weight.is_some())
            .field("train", &self.train.is_some())
            .finish()
    }
}

/// Every distance times a caller's factor of its level.
pub(crate) fn weighted_by(
    losses: Tensor,
    levels: &Levels,
    weight: &dyn Fn(NoiseLevel) -> f64,
) -> Result<Tensor> {
    let bad = Cell::new(None);
    let losses = levels.scaled(&losses, |at| {
        let factor = if at.sigma == 0.0 { 0.0 } else { weight(at) };
        if !factor.is_finite() || factor < 0.0 {
            bad.set(Some((at, factor)));
        }
        factor
    })?;
    match bad.get() {
        Some((at, factor)) => {
            Err(Error::value(format!("loss weight at {at:?}"), "a finite number from 0 on", factor))
        }
        None => Ok(losses),
    }
}
