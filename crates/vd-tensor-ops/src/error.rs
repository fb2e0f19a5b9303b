//! Errors of tensor operations and weight files.

use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// libtorch refused the operation.
    #[error("libtorch: {}", vd_torch::brief(.0))]
    Torch(#[from] tch::TchError),
    /// A tensor does not have the required shape.
    #[error("{what}: expected shape {expected}, got {got:?}")]
    Shape {
        /// The tensor.
        what: String,
        /// The expected shape, in letters and numbers.
        expected: String,
        /// Its actual shape.
        got: Vec<i64>,
    },
    /// A number or an option is out of range.
    #[error("{what}: expected {expected}, got {got}")]
    Value {
        /// The setting.
        what: String,
        /// The allowed values.
        expected: String,
        /// The given value.
        got: String,
    },
    /// Two parameters with the same name.
    #[error("parameter `{0}` is declared twice; every parameter needs a name of its own")]
    Duplicate(String),
    /// Named tensors do not match the parameters of a network.
    #[error("the weights do not fit the network: {0}")]
    Mismatch(String),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A file's content violates its format.
    #[error("{path}: {what}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the expected and the actual value.
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
