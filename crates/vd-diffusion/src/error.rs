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
        /// Which setting or argument.
        what: String,
        /// What is allowed.
        expected: String,
        /// What was given.
        got: String,
    },
    /// A tensor has not the shape or the kind that is needed.
    #[error("{what}: expected {expected}, got {got}")]
    Tensor {
        /// Which tensor.
        what: String,
        /// The shape or kind that is needed.
        expected: String,
        /// The shape or kind it has.
        got: String,
    },
    /// The levels of a grid do not fall in noise.
    #[error("grid of noise levels: {0}")]
    Grid(String),
    /// A prediction cannot be converted at this noise level.
    #[error("{0}")]
    Level(String),
    /// Guidance was asked of something that cannot give it.
    #[error("guidance at scale {scale}: {why}")]
    Guidance {
        /// The scale that was asked for.
        scale: f64,
        /// What is missing, and what to do.
        why: String,
    },
    /// A state of a run holds a number that is not finite.
    #[error(
        "the state after {steps} of {of} steps, at t = {} (alpha = {}, sigma = {}), is not finite: \
         look at what the network answers there, and at the guidance scale",
        at.t, at.alpha, at.sigma
    )]
    NotFinite {
        /// How many steps were done; 0 is the state that the run began with.
        steps: usize,
        /// How many steps there are.
        of: usize,
        /// The level of the state.
        at: crate::NoiseLevel,
    },
    /// `on_step` stopped the sampling.
    #[error("sampling was stopped after {steps} steps")]
    Cancelled {
        /// How many steps were done.
        steps: usize,
    },
    /// Whatever a denoiser, sampler or schedule of another crate has to say.
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
