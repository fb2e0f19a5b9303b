//! Where the captions and other metadata of a folder's clips come from.

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
/// - `.csv`: a header with the names of the columns, then the rows; fields with commas or quotes
///   are quoted. `.jsonl` or `.ndjson`: one JSON object per line. Both are in UTF-8; a byte order
///   mark, blank lines, the kind of line ending and blanks around a value do not matter.
/// - `file` names the clip by its path relative to the folder, with either slash; a clip of still
///   frames by that of its folder.
/// - `caption`, which may be left out, is its caption.
/// - The other columns are free, for signals: numbers and text; in JSON also lists of numbers, and
///   lists of such lists. An empty field, or null, means that the clip has no such value.
///
/// A row whose file is not among the clips is an error, as is a file with two rows. A clip without
/// a row has no caption and no columns; the log reports once how many there are, and names the
/// first ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Captions {
    /// They lie beside the clips: see [`crate::Folder`].
    #[default]
    Beside,
    /// They are in a table; a relative path starts at the folder.
    Table(PathBuf),
    /// The name of the folder that contains a clip is its caption, with `_` and `-` replaced by
    /// blanks. A clip directly in the root of the data set has none.
    Folders,
}

impl Captions {
    /// Whether this is the default.
    pub(crate) fn is_beside(&self) -> bool {
        *self == Self::Beside
    }

    /// The path of the table, if there is one.
    pub(crate) fn table_below(&self, root: &Path) -> Option<PathBuf> {
        match self {
            Self::Table(path) => Some(root.join(path)),
            Self::Beside | Self::Folders => None,
        }
    }
}

/// The name of a class folder as a caption; `None` if nothing is left.
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
