//! Tables as comma-separated values (RFC 4180).

use std::path::Path;

use csv::{ReaderBuilder, StringRecord};

use super::Value;
use super::table::Line;
use crate::{Error, Result};

/// The rows below the header.
pub(super) fn lines(path: &Path, text: &str) -> Result<Vec<Line>> {
    // ragged rows are looked for here, where the lines are known
    let mut reader =
        ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut header: Option<Vec<String>> = None;
    let mut place = Place { text, byte: 0, line: 1 };
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| {
            Error::table(path, (None, None), "comma-separated values", e.to_string())
        })?;
        let number = place.advance(record.position().map_or(0, |at| at.byte() as usize));
        if record.iter().all(|field| field.trim().is_empty()) && record.len() == 1 {
            continue;
        }
        let Some(names) = &header else {
            header = Some(names(path, number, &record)?);
            continue;
        };
        if record.len() != names.len() {
            let expected = format!("{} fields, as the header has", names.len());
            let found = format!("{}", record.len());
            return Err(Error::table(path, (Some(number), None), expected, found));
        }
        let fields = names.iter().zip(&record).map(|(name, field)| (name, field.trim()));
        let fields = fields.filter(|(_, field)| !field.is_empty());
        let values = fields.map(|(name, field)| (name.clone(), Value::Text(field.to_owned())));
        lines.push(Line { number, values: values.collect() });
    }
    if header.is_none() {
        return Err(Error::table(path, (None, None), "a header with a column `file`", "nothing"));
    }
    // a quote that is never closed takes the rest of the table for one field
    if !place.rest().matches('"').count().is_multiple_of(2) {
        let expected = "a quote that is closed (a quote inside of quotes is written twice)";
        let found = "none up to the end of the table";
        return Err(Error::table(path, (Some(place.line), None), expected, found));
    }
    Ok(lines)
}

/// The names of the columns.
fn names(path: &Path, number: u64, record: &StringRecord) -> Result<Vec<String>> {
    let names: Vec<String> = record.iter().map(|name| name.trim().to_owned()).collect();
    let refuse = |expected: &str, found: String| {
        Err(Error::table(path, (Some(number), None), expected, found))
    };
    let listed = names.join(", ");
    if !names.iter().any(|name| name == "file") {
        return refuse("a header with a column `file`", format!("the columns {listed}"));
    }
    if names.iter().any(String::is_empty) {
        return refuse("a name for every column", format!("the columns {listed}"));
    }
    let twice = names.iter().enumerate().find(|(k, name)| names[..*k].contains(name));
    match twice {
        Some((_, name)) => refuse("every column once", format!("`{name}` twice")),
        None => Ok(names),
    }
}

/// A place in a text that only goes forward.
struct Place<'a> {
    text: &'a str,
    byte: usize,
    line: u64,
}

impl Place<'_> {
    /// Goes to the record that the reader began to look for at `byte`, and tells its line.
    fn advance(&mut self, byte: usize) -> u64 {
        let bytes = self.text.as_bytes();
        let blank = bytes[byte..].iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        let breaks = bytes[self.byte..byte + blank].iter().filter(|b| **b == b'\n').count();
        self.byte = byte + blank;
        self.line += breaks as u64;
        self.line
    }

    fn rest(&self) -> &str {
        self.text.get(self.byte..).unwrap_or_default()
    }
}
