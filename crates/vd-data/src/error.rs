//! What can go wrong between files and batches, in both directions.

use std::io;
use std::path::{Path, PathBuf};

/// All errors of this crate, with what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder that could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A file whose content is not valid.
    #[error("{}: damaged or not a video: expected {expected}, found {found}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What a valid file would contain.
        expected: String,
        /// What this one contains.
        found: String,
    },
    /// A file that is valid as far as it was read, but larger than the accepted limit.
    #[error("{}: too large: {found}, at most {limit} is accepted", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: String,
        /// The limit.
        limit: String,
    },
    /// A file that is read through ffmpeg, which is missing.
    #[error("{}: is {format}, which is read through ffmpeg: {why}", path.display())]
    NeedsFfmpeg {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: &'static str,
        /// What is missing, and how to fix it.
        why: String,
    },
    /// A program that could not be run, or was killed.
    #[error("{}: ffmpeg {detail}", path.display())]
    Ffmpeg {
        /// The file that it was run for.
        path: PathBuf,
        /// How it failed.
        detail: String,
    },
    /// More unreadable files than `max_bad_files` allows.
    #[error(
        "{}: {count} files cannot be read, more than max_bad_files = {max}; the first of them:\n  {}\nrepair or remove them, or raise data.max_bad_files",
        folder.display(),
        first.join("\n  ")
    )]
    TooManyBadFiles {
        /// The folder of the data set.
        folder: PathBuf,
        /// How many files could not be read so far.
        count: usize,
        /// How many files could not be read up to now.
        max: usize,
        /// The first few, each with its reason.
        first: Vec<String>,
    },
    /// A folder without any usable clip.
    #[error("{}: no usable clip: {detail}", folder.display())]
    NoClips {
        /// The folder of the data set.
        folder: PathBuf,
        /// What was found instead, and how to fix it.
        detail: String,
    },
    /// A table of captions with invalid content.
    #[error("{}: expected {expected}, found {found}", place(path, *line, column.as_deref()))]
    Table {
        /// The table.
        path: PathBuf,
        /// The line, from 1, if the error concerns one.
        line: Option<u64>,
        /// The column, if the error concerns one.
        column: Option<String>,
        /// What a valid table would contain.
        expected: String,
        /// What this one contains.
        found: String,
    },
    /// Prepared clips (shards) that are inconsistent.
    #[error("{}: expected {expected}, found {found}", place(path, *line, None))]
    Shards {
        /// The index, or a shard.
        path: PathBuf,
        /// The line, from 1, if the error concerns one.
        line: Option<u64>,
        /// What a consistent one would contain.
        expected: String,
        /// What this one contains.
        found: String,
    },
    /// A clip that failed during preparation of the shards.
    #[error("{}: could not be prepared: {reason}", path.display())]
    Unprepared {
        /// Its path relative to the folder that was prepared.
        path: PathBuf,
        /// The reason recorded at that time.
        reason: String,
    },
    /// Numbers that the dtype in which they are to be stored cannot represent.
    #[error("{}: cannot be stored as {dtype}: expected {expected}, found {found}", path.display())]
    Unstorable {
        /// The file.
        path: PathBuf,
        /// The dtype.
        dtype: &'static str,
        /// The numbers that it can represent.
        expected: String,
        /// The first number that it cannot.
        found: String,
    },
    /// A setting outside its range.
    #[error("{key}: expected {expected}, got {got}")]
    Config {
        /// The setting, as it is written in the config.
        key: &'static str,
        /// The legal values.
        expected: String,
        /// The value given.
        got: String,
    },
    /// A clip whose fields contradict each other, or that a writer does not support.
    #[error("clip: expected {expected}, got {got}")]
    Clip {
        /// What would be legal.
        expected: String,
        /// What was given.
        got: String,
    },
    /// A saved position that does not fit the data set.
    #[error(
        "data cursor: expected {expected}, got {got}; has the data changed since it was saved?"
    )]
    Cursor {
        /// What the data set allows.
        expected: String,
        /// What the cursor says.
        got: String,
    },
    /// A file that could not be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// All loading threads ended before their work was done.
    #[error("the loading threads ended before finishing their work")]
    WorkersGone,
    /// The operating system gave no thread to load with.
    #[error("could not start a loading thread: {0}; lower data.workers, or set it to 0")]
    Threads(io::Error),
    /// A generator that panicked.
    #[error("the generator panicked on clip {index}: {said}")]
    Generator {
        /// The clip's number.
        index: u64,
        /// The panic's message.
        said: String,
    },
    /// An error of a [`Generator`](crate::Generator) outside this crate.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
    /// libtorch refused an operation.
    #[error("libtorch: {}", vd_tensor_ops::torch::brief(.0))]
    Torch(#[from] tch::TchError),
}

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of a [`Generator`](crate::Generator) outside this crate: another error, or a message.
    pub fn custom(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }

    /// Whether the error concerns one file of a data set, which can be skipped, rather than the
    /// whole run.
    pub fn is_bad_file(&self) -> bool {
        matches!(
            self,
            Self::Read { .. }
                | Self::Damaged { .. }
                | Self::TooLarge { .. }
                | Self::Unprepared { .. }
        )
    }

    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_path_buf(), source }
    }

    pub(crate) fn damaged(
        path: &Path,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Damaged { path: path.to_path_buf(), expected: expected.into(), found: found.into() }
    }

    pub(crate) fn table(
        path: &Path,
        (line, column): (Option<u64>, Option<&str>),
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Table {
            path: path.to_path_buf(),
            line,
            column: column.map(str::to_owned),
            expected: expected.into(),
            found: found.into(),
        }
    }

    pub(crate) fn shards(
        path: &Path,
        line: Option<u64>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        let (expected, found) = (expected.into(), found.into());
        Self::Shards { path: path.to_path_buf(), line, expected, found }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_path_buf(), source }
    }

    pub(crate) fn config(
        key: &'static str,
        expected: impl Into<String>,
        got: impl ToString,
    ) -> Self {
        Self::Config { key, expected: expected.into(), got: got.to_string() }
    }

    pub(crate) fn clip(expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self::Clip { expected: expected.into(), got: got.into() }
    }
}

/// A position in a table, in words.
fn place(path: &Path, line: Option<u64>, column: Option<&str>) -> String {
    let mut place = path.display().to_string();
    if let Some(line) = line {
        place.push_str(&format!(", line {line}"));
    }
    if let Some(column) = column {
        place.push_str(&format!(", column `{column}`"));
    }
    place
}
