//! Tables of captions in any format.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};
use std::sync::Arc;

use super::{MAX_CAPTION, Row, Value, comma, json_lines};
use crate::decode::extension;
use crate::{Error, Result};

/// The largest table in bytes.
const MAX_TABLE: u64 = 256 << 20;

/// The column that names the clip.
const FILE: &str = "file";
/// The column of its caption.
const CAPTION: &str = "caption";

/// A line of a table, before it is checked that its file exists.
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    pub(super) values: BTreeMap<String, Value>,
}

/// A clip's metadata from a table.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    pub(crate) caption: Option<String>,
    pub(crate) row: Arc<Row>,
}

/// A table that was read.
#[derive(Debug)]
pub(crate) struct Table {
    path: Arc<Path>,
    rows: HashMap<String, Described>,
}

impl Table {
    /// Reads a table; the extension of its name determines the format.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let shared: Arc<Path> = path.into();
        let lines = match extension(path).as_str() {
            "csv" => comma::lines(path, &text(path)?)?,
            "jsonl" | "ndjson" => json_lines::lines(path, &text(path)?)?,
            other => {
                let found = format!("one that ends in {other:?}");
                return Err(Error::table(path, (None, None), "a .csv or a .jsonl file", found));
            }
        };
        let mut rows: HashMap<String, Described> = HashMap::with_capacity(lines.len());
        for line in lines {
            let (file, described) = describe(&shared, line)?;
            let (key, number) = (key(Path::new(&file.replace('\\', "/"))), described.row.line);
            if let Some(first) = rows.insert(key, described) {
                let found = format!("{file:?} a second time, first in line {}", first.row.line);
                let place = (Some(number), Some(FILE));
                return Err(Error::table(path, place, "each file once", found));
            }
        }
        Ok(Self { path: shared, rows })
    }

    /// The table's row for the clip `name`, a path relative to the folder.
    pub(crate) fn find(&self, name: &Path) -> Option<&Described> {
        self.rows.get(&key(name))
    }

    /// Refuses rows of files that are not among `names`.
    pub(crate) fn check_files<'a>(&self, names: impl Iterator<Item = &'a Path>) -> Result<()> {
        const SHOWN: usize = 5;
        let mut left: HashMap<&str, u64> =
            self.rows.iter().map(|(key, found)| (key.as_str(), found.row.line)).collect();
        for name in names {
            left.remove(key(name).as_str());
        }
        if left.is_empty() {
            return Ok(());
        }
        let mut left: Vec<_> = left.into_iter().map(|(key, line)| (line, key)).collect();
        left.sort_unstable();
        let shown = left.iter().take(SHOWN).map(|(line, key)| format!("{key:?} (line {line})"));
        let shown: Vec<_> = shown.collect();
        let more = left.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let expected = "paths of clips below the folder of the data set";
        let found = format!("{} without a clip: {}{more}", left.len(), shown.join(", "));
        Err(Error::table(&self.path, (None, Some(FILE)), expected, found))
    }
}

/// The form in which the paths of rows and clips are compared: `/` between components, without
/// empty and `.` components.
fn key(path: &Path) -> String {
    let parts = path.components().filter_map(|part| match part {
        Component::CurDir => None,
        part => Some(part.as_os_str().to_string_lossy().replace('\\', "/")),
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Takes the two columns that every table has out of a line.
fn describe(path: &Arc<Path>, mut line: Line) -> Result<(String, Described)> {
    let mut text = |column, expected| match line.values.remove(column) {
        None => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text)),
        Some(_) => {
            Err(Error::table(path, (Some(line.number), Some(column)), expected, "another value"))
        }
    };
    let file = text(FILE, "the path of a clip, a text")?;
    let caption = text(CAPTION, "a text")?;
    let number = line.number;
    let Some(file) = file else {
        let place = (Some(number), Some(FILE));
        return Err(Error::table(path, place, "the path of a clip below the folder", "nothing"));
    };
    if let Some(caption) = &caption
        && caption.len() as u64 > MAX_CAPTION
    {
        let (expected, found) = (format!("at most {MAX_CAPTION} bytes"), caption.len());
        let place = (Some(number), Some(CAPTION));
        return Err(Error::table(path, place, expected, format!("{found} bytes")));
    }
    let row = Row { table: Arc::clone(path), line: number, columns: line.values };
    Ok((file, Described { caption, row: Arc::new(row) }))
}

/// The content of a table, without a byte order mark.
fn text(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(|e| Error::read(path, e))?;
    let mut bytes = Vec::new();
    file.take(MAX_TABLE + 1).read_to_end(&mut bytes).map_err(|e| Error::read(path, e))?;
    if bytes.len() as u64 > MAX_TABLE {
        let expected = format!("a table of at most {MAX_TABLE} bytes");
        return Err(Error::table(path, (None, None), expected, "a larger one"));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let sound = e.utf8_error().valid_up_to();
        let line = 1 + e.as_bytes()[..sound].iter().filter(|byte| **byte == b'\n').count() as u64;
        Error::table(path, (Some(line), None), "text in UTF-8", "another byte")
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}
