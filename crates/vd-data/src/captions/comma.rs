//! Tables as comma-separated values (RFC 4180).

use std::path::Path;

use csv::{ReaderBuilder, StringRecord};

use super::Value;
use super::table::Line;
use crate::{Error, Result};

/// The rows below the header.
pub(super) fn lines(path: &Path, text: &str) -> Result<Vec<Line>> {
    if let Some((line, found)) = open_quote(text) {
        let expected =
            "a quote that is closed at the end of its field (write a quote inside quotes twice)";
        return Err(Error::table(path, (Some(line), None), expected, found));
    }
    // ragged rows are detected here, where line numbers are known
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
            let expected = format!("{} fields, as in the header", names.len());
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
    if lines.is_empty() {
        return Err(Error::table(path, (None, None), "a row for each clip", "only a header"));
    }
    Ok(lines)
}

/// The line of the first quote that is not closed at the end of its field, and what follows it:
/// such a field would swallow the rows up to the next quote.
fn open_quote(text: &str) -> Option<(u64, &'static str)> {
    let mut bytes = text.bytes().peekable();
    let (mut line, mut begins) = (1, true);
    while let Some(byte) = bytes.next() {
        line += u64::from(byte == b'\n');
        if byte != b'"' || !begins {
            begins = matches!(byte, b',' | b'\r' | b'\n');
            continue;
        }
        let opened = line;
        loop {
            match bytes.next() {
                None => return Some((opened, "no closing quote before the end of the table")),
                Some(b'"') if bytes.next_if_eq(&b'"').is_none() => break,
                Some(byte) => line += u64::from(byte == b'\n'),
            }
        }
        while bytes.next_if(|byte| matches!(byte, b' ' | b'\t')).is_some() {}
        if !matches!(bytes.peek(), None | Some(b',' | b'\r' | b'\n')) {
            return Some((opened, "more text after the closing quote"));
        }
        begins = false;
    }
    None
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

/// A position in a text that only moves forward.
struct Place<'a> {
    text: &'a str,
    byte: usize,
    line: u64,
}

impl Place<'_> {
    /// Advances to the record that the reader began to look for at `byte`, and returns its line.
    fn advance(&mut self, byte: usize) -> u64 {
        let bytes = self.text.as_bytes();
        let blank = bytes[byte..].iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        let breaks = bytes[self.byte..byte + blank].iter().filter(|b| **b == b'\n').count();
        self.byte = byte + blank;
        self.line += breaks as u64;
        self.line
    }
}
