//! Why a network refused its config or its input.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation or a parameter was refused.
    #[error(transparent)]
    Ops(#[from] vd_tensor_ops::Error),
    /// libtorch refused the operation.
    #[error("libtorch: {}", vd_tensor_ops::torch::brief(.0))]
    Torch(#[from] tch::TchError),
    /// A field of the config is out of its range.
    #[error(
        "`{field}` of the network's config (`model.{field}` in TOML): expected {expected}, got {got}"
    )]
    Config {
        /// Name of the field.
        field: String,
        /// What is allowed.
        expected: String,
        /// What was given.
        got: String,
    },
    /// An input that does not fit the network.
    #[error("{what}: expected {expected}, got {got}")]
    Input {
        /// Name of the input.
        what: String,
        /// What the network accepts.
        expected: String,
        /// What was given.
        got: String,
    },
    /// An error of a network of another crate.
    #[error("{0}")]
    Other(String),
}

impl Error {
    pub(crate) fn input(what: impl Into<String>, expected: impl Into<String>, got: String) -> Self {
        Error::Input { what: what.into(), expected: expected.into(), got }
    }

    /// An error of a [`Backbone`](crate::Backbone) outside this crate.
    pub fn custom(message: impl Into<String>) -> Self {
        Error::Other(message.into())
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
