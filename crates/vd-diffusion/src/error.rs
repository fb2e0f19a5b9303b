//! Why a config, a call or a step was refused.

use std::fmt::Display;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The network refused its input, or failed.
    #[error(transparent)]
    Backbone(#[from] vd_unet3d::Error),
    /// A tensor operation was refused.
    #[error(transparent)]
    Ops(#[from] vd_tensor_ops::Error),
    /// libtorch refused the operation.
    #[error("libtorch: {}", vd_tensor_ops::torch::brief(.0))]
    Torch(#[from] tch::TchError),
    /// A number or an option is out of its range.
    #[error("{what}: expected {expected}, got {got}")]
    Value {
        /// Name of the setting or argument.
        what: String,
        /// What is allowed.
        expected: String,
        /// What was given.
        got: String,
    },
    /// A tensor has the wrong shape or kind.
    #[error("{what}: expected {expected}, got {got}")]
    Tensor {
        /// Name of the tensor.
        what: String,
        /// The required shape or kind.
        expected: String,
        /// The shape or kind it has.
        got: String,
    },
    /// The noise of a grid's levels does not fall.
    #[error("grid of noise levels: {0}")]
    Grid(String),
    /// A prediction cannot be converted at this noise level.
    #[error("{0}")]
    Level(String),
    /// Guidance was requested of something that cannot provide it.
    #[error("guidance at scale {scale}: {why}")]
    Guidance {
        /// The requested scale.
        scale: f64,
        /// What is missing, and how to fix it.
        why: String,
    },
    /// A state of a run contains a non-finite number.
    #[error(
        "the state after {steps} of {of} steps, at t = {} (alpha = {}, sigma = {}), is not finite: \
         check the network's output there, and the guidance scale",
        at.t, at.alpha, at.sigma
    )]
    NotFinite {
        /// Number of steps done; 0 for the initial state.
        steps: usize,
        /// Number of steps in total.
        of: usize,
        /// The noise level of the state.
        at: crate::NoiseLevel,
    },
    /// `on_step` cancelled the run.
    #[error("sampling was stopped after {steps} steps")]
    Cancelled {
        /// Number of steps done.
        steps: usize,
    },
    /// An error of a denoiser, sampler or schedule of another crate.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// An error of a [`Denoiser`](crate::Denoiser) or [`Sampler`](crate::Sampler) outside this
    /// crate.
    pub fn custom(message: impl Into<String>) -> Self {
        Error::Other(message.into())
    }

    pub(crate) fn value(
        what: impl Into<String>,
        expected: impl Into<String>,
        got: impl Display,
    ) -> Self {
        Error::Value { what: what.into(), expected: expected.into(), got: got.to_string() }
    }

    pub(crate) fn tensor(
        what: impl Into<String>,
        expected: impl Into<String>,
        got: impl Into<String>,
    ) -> Self {
        Error::Tensor { what: what.into(), expected: expected.into(), got: got.into() }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Refuses a number outside [low, high]; NaN is outside.
pub(crate) fn in_range(what: &str, value: f64, low: f64, high: f64) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Error::value(what, format!("a number from {low} to {high}"), value))
}

/// Refuses an order outside 1..=highest.
pub(crate) fn order_in(what: &str, order: usize, highest: usize) -> Result<()> {
    if (1..=highest).contains(&order) {
        return Ok(());
    }
    Err(Error::value(what, format!("a whole number from 1 to {highest}"), order))
}
