//! A clip's row in a table.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::take::Taken;
use crate::{Error, Result};

/// A value of a table.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A number of a JSON table.
    Number(f64),
    /// Text; every value of a CSV table is text until it is read as a number.
    Text(String),
    /// A list of rows of `width` numbers, one row after the other; a plain list of numbers has
    /// width 1.
    List {
        /// Numbers in a row, at least 1.
        width: usize,
        /// All rows.
        numbers: Vec<f64>,
    },
}

/// A clip's columns in a table besides its caption.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Row {
    /// The table.
    pub table: Arc<Path>,
    /// Its line, from 1.
    pub line: u64,
    /// The values that the clip has.
    pub columns: BTreeMap<String, Value>,
}

impl Row {
    /// A value as a number; `None` if the clip has none.
    ///
    /// # Errors
    /// A value that is not a number, or not finite in single precision.
    pub fn number(&self, column: &str) -> Result<Option<f64>> {
        let Some(value) = self.columns.get(column) else { return Ok(None) };
        let number = match value {
            Value::Number(number) => Some(*number),
            Value::Text(text) => text.parse().ok().filter(|number: &f64| is_single(*number)),
            Value::List { .. } => None,
        };
        number.map(Some).ok_or_else(|| self.refuse(column, "a number", value.brief()))
    }

    /// A value as the name of a class; `None` if the clip has none.
    ///
    /// # Errors
    /// A list.
    pub fn name(&self, column: &str) -> Result<Option<String>> {
        match self.columns.get(column) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(Value::Text(text)) => Ok(Some(text.clone())),
            Some(list) => Err(self.refuse(column, "the name of a class", list.brief())),
        }
    }

    /// A list of numbers for the whole clip; `None` if the clip has none.
    ///
    /// # Errors
    /// A value that is not a list of `width` numbers.
    pub fn vector(&self, column: &str, width: usize) -> Result<Option<&[f64]>> {
        match self.columns.get(column) {
            None => Ok(None),
            Some(Value::List { width: 1, numbers }) if numbers.len() == width => Ok(Some(numbers)),
            Some(other) => {
                let expected = format!("a list of {width} numbers");
                Err(self.refuse(column, expected, other.brief()))
            }
        }
    }

    /// The values of the `frames` frames that were taken from a file, one after the other; `None`
    /// if the clip has none.
    ///
    /// # Shapes
    /// frames width
    /// # Errors
    /// A value that is not a list, whose rows are not `width` long, or that does not have exactly
    /// one row for each frame of the file.
    pub fn series(
        &self,
        column: &str,
        width: usize,
        taken: &Taken,
        frames: usize,
    ) -> Result<Option<Vec<f64>>> {
        let Some(numbers) = self.list(column, width)? else { return Ok(None) };
        self.one_a_frame(column, numbers.len() / width, taken.of)?;
        let places = taken.frames(frames).into_iter();
        let cut = places.flat_map(|k| &numbers[k * width..(k + 1) * width]);
        Ok(Some(cut.copied().collect()))
    }

    /// Checks that a list has as many rows as its file has frames.
    ///
    /// # Errors
    /// More or fewer rows: which frame a value belongs to would be a guess.
    pub fn one_a_frame(&self, column: &str, rows: usize, frames: usize) -> Result<()> {
        if rows == frames {
            return Ok(());
        }
        let expected = format!("a value for each of the {frames} frames of the file");
        Err(self.refuse(column, expected, format!("{rows} values")))
    }

    /// All rows of a list, one after the other; `None` if the clip has none.
    ///
    /// # Errors
    /// A value that is not a list, or whose rows are not `width` long.
    pub fn list(&self, column: &str, width: usize) -> Result<Option<&[f64]>> {
        match self.columns.get(column) {
            None => Ok(None),
            Some(Value::List { width: own, numbers }) if *own == width => Ok(Some(numbers)),
            Some(Value::List { width: own, .. }) => {
                let expected = format!("{} per frame", counted(width));
                Err(self.refuse(column, expected, format!("{} per frame", counted(*own))))
            }
            Some(other) => {
                let expected = "a list with a value for each frame, which a .jsonl table can hold";
                Err(self.refuse(column, expected, other.brief()))
            }
        }
    }

    /// The error for a value of the wrong kind.
    pub fn refuse(
        &self,
        column: &str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Error {
        let place = (Some(self.line), Some(column));
        Error::table(&self.table, place, expected, found)
    }
}

impl Value {
    /// The value for an error message.
    fn brief(&self) -> String {
        const SHOWN: usize = 40;
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => match text.char_indices().nth(SHOWN) {
                Some((at, _)) => format!("{:?} and more", &text[..at]),
                None => format!("{text:?}"),
            },
            Self::List { width: 1, numbers } => format!("a list of {}", counted(numbers.len())),
            Self::List { width, numbers } => {
                let rows = numbers.len() / width;
                format!("a list of {rows} lists of {}", counted(*width))
            }
        }
    }
}

/// Whether a number is finite in single precision too.
pub(super) fn is_single(number: f64) -> bool {
    (number as f32).is_finite()
}

fn counted(n: usize) -> String {
    if n == 1 { "1 number".to_owned() } else { format!("{n} numbers") }
}
