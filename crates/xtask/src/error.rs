//! The two ways in which a task can fail.

use std::path::Path;

/// Why a task stopped; each message is one line: what was expected, what was found, what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// The command line is wrong: exit code 2.
    Usage(String),
    /// The work could not be done: exit code 1.
    Failed(String),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// A failure with a one-line message.
pub(crate) fn failed<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::Failed(message.into()))
}

/// Names the failed operation on `path` if the system refuses it.
pub(crate) fn at<'a>(what: &'a str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
    move |e| Error::Failed(format!("cannot {what} {}: {e}", path.display()))
}
