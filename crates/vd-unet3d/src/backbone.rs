//! What a diffusion process asks of a network.

use std::fmt::Debug;

use tch::Tensor;
use vd_tensor_ops::{FrameMask, Noise};

use crate::{Cond, Result, SignalConfig};

/// A network that looks at noisy videos and answers with a tensor of their shape.
pub trait Backbone: Debug + Send {
    /// One evaluation.
    ///
    /// `t` is in the units of the schedule's `time_input`. `train` is the stream for dropout masks;
    /// `None` means evaluation.
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

    /// Whether the network takes conditioning, and has stand-ins to guide against.
    fn is_conditional(&self) -> bool {
        false
    }

    /// Whether a text is among what it takes.
    fn takes_text(&self) -> bool {
        self.is_conditional()
    }

    /// What else it takes, by name.
    fn signals(&self) -> Vec<(&str, &SignalConfig)> {
        Vec::new()
    }
}
