//! Why a tensor operation or a weight file was refused.

use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// libtorch refused the operation.
    #[error("libtorch: {}", vd_torch::brief(.0))]
    Torch(#[from] tch::TchError),
    /// A tensor has not the shape that is needed.
    #[error("{what}: expected shape {expected}, got {got:?}")]
    Shape {
        /// Which tensor.
        what: String,
        /// The shape in letters and numbers.
        expected: String,
        /// The shape it has.
        got: Vec<i64>,
    },
    /// A number or an option is out of its range.
    #[error("{what}: expected {expected}, got {got}")]
    Value {
        /// Which setting.
        what: String,
        /// What is allowed.
        expected: String,
        /// What was given.
        got: String,
    },
    /// Two parameters of one name.
    #[error("parameter `{0}` is declared twice; every parameter needs a name of its own")]
    Duplicate(String),
    /// Named tensors do not fit the parameters of a network.
    #[error("the weights do not fit the network: {0}")]
    Mismatch(String),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file's content is not what its format demands.
    #[error("{path}: {what}")]
    Format {
        /// Which file.
        path: PathBuf,
        /// What, expected and got.
        what: String,
    },
}

impl Error {
    pub(crate) fn shape(what: impl Into<String>, expected: impl Into<String>, got: &[i64]) -> Self {
        Error::Shape { what: what.into(), expected: expected.into(), got: got.to_vec() }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
