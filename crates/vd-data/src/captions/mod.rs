//! Where the captions of a folder's clips come from, and what else is known of a clip.

mod comma;
mod json_lines;
mod row;
mod table;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use row::{Row, Value};

pub(crate) use table::Table;

/// The longest caption in bytes.
pub(crate) const MAX_CAPTION: u64 = 64 << 10;

/// Where the captions of a folder's clips come from.
///
/// A table has a row for each clip:
///
/// - `.csv`: a header with the names of the columns, then the rows, fields with commas or quotes in quotes; `.jsonl` or
///   `.ndjson`: one JSON object a line. Both in UTF-8; a byte order mark, blank lines, either end of line and blanks around
///   a value do not count.
/// - `file` names the clip: its path below the folder, with either slash; that of the folder for a clip of still frames.
/// - `caption`, which may be left out, is its caption.
/// - The other columns are free, for signals: numbers and text; in JSON lists of numbers too, and lists of such lists.
///   An empty field, or null, is a value that the clip does not have.
///
/// A row whose file is not among the clips is an error, as is a file with two rows. A clip without a row has no caption and
/// no columns; how many there are, and the first of them, is said once in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Captions {
    /// They stand beside the clips: see [`crate::Folder`].
    #[default]
    Beside,
    /// A table has them; a relative path starts at the folder.
    Table(PathBuf),
    /// The folder that a clip lies in names what it shows: its own name, with `_` and `-` as blanks, is the caption. A clip
    /// that lies in no folder below that of the data set has none.
    Folders,
}

impl Captions {
    /// Whether nothing else than the default was asked for.
    pub(crate) fn is_beside(&self) -> bool {
        *self == Self::Beside
    }

    /// Where the table is, if there is one.
    pub(crate) fn table_below(&self, root: &Path) -> Option<PathBuf> {
        match self {
            Self::Table(path) => Some(root.join(path)),
            Self::Beside | Self::Folders => None,
        }
    }
}

/// The name of a class folder as a caption; `None` where nothing is left.
pub(crate) fn of_folder(name: &str) -> Option<String> {
    let words: Vec<_> = name.split(|c: char| "_-".contains(c) || c.is_whitespace()).collect();
    let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_folder_becomes_words() {
        for (name, caption) in
            [("apply_eye-makeup", "apply eye makeup"), (" red  dog", "red dog"), ("Größe", "Größe")]
        {
            assert_eq!(of_folder(name).as_deref(), Some(caption));
        }
        assert_eq!(of_folder("_-"), None);
    }
}
