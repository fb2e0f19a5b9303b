//! The two ways in which a task ends badly.

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

/// A failure with its one line.
pub(crate) fn failed<T>(message: impl Into<String>) -> Result<T> {
    Err(Error::Failed(message.into()))
}

/// Names what was tried on `path` when the system refuses it.
pub(crate) fn at<'a>(what: &'a str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
    move |e| Error::Failed(format!("cannot {what} {}: {e}", path.display()))
}
