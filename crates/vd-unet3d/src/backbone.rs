//! The interface between a diffusion process and its network.

use std::fmt::Debug;

use tch::Tensor;
use vd_tensor_ops::{FrameMask, Noise};

use crate::{Cond, Result, SignalConfig};

/// A network that maps noisy videos to tensors of the same shape.
pub trait Backbone: Debug + Send {
    /// One evaluation.
    ///
    /// `t` is in the units of the schedule's `time_input`. `train` is the stream for dropout masks;
    /// `None`: evaluation.
    ///
    /// # Shapes
    /// `x`: b c f h w; `t`: b, or b f for one noise level per frame; result: b c f h w
    ///
    /// # Errors
    /// Inputs that do not fit the network.
    fn forward(
        &self,
        x: &Tensor,
        t: &Tensor,
        cond: &Cond,
        frames: &FrameMask,
        train: Option<&mut dyn Noise>,
    ) -> Result<Tensor>;

    /// Whether the network takes conditioning, and has null embeddings for guidance.
    fn is_conditional(&self) -> bool {
        false
    }

    /// Whether the conditioning includes a text.
    fn takes_text(&self) -> bool {
        self.is_conditional()
    }

    /// Its other conditioning inputs, by name.
    fn signals(&self) -> Vec<(&str, &SignalConfig)> {
        Vec::new()
    }
}
