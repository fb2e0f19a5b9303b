//! Tables with one JSON object per line.

use std::collections::BTreeMap;
use std::path::Path;
use std::result::Result as StdResult;

use serde_json::{Map, Value as Json};

use super::Value;
use super::row::is_single;
use super::table::Line;
use crate::{Error, Result};

/// The lines that are not blank.
pub(super) fn lines(path: &Path, text: &str) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (number, line) in (1u64..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let object: Map<String, Json> = serde_json::from_str(line).map_err(|e| {
            let message = e.to_string();
            // every line is parsed as a separate text: the line number in the message would mislead
            let what = message.split(" at line ").next().unwrap_or(&message);
            let found = format!("{what} at character {}", e.column());
            Error::table(path, (Some(number), None), "a JSON object on one line", found)
        })?;
        let mut values = BTreeMap::new();
        for (name, json) in object {
            let value = value(&json).map_err(|found| {
                let expected = "a number, a text, or a list of numbers or of lists of them";
                Error::table(path, (Some(number), Some(&name)), expected, found)
            })?;
            if let Some(value) = value {
                values.insert(name, value);
            }
        }
        lines.push(Line { number, values });
    }
    if lines.is_empty() {
        let expected = "a JSON object with a key `file` on each line";
        return Err(Error::table(path, (None, None), expected, "nothing"));
    }
    Ok(lines)
}

/// A value; `None` for null and blanks; or, as the error, what it is instead.
fn value(json: &Json) -> StdResult<Option<Value>, String> {
    Ok(match json {
        Json::Null => None,
        Json::Bool(yes) => Some(Value::Text(yes.to_string())),
        Json::Number(_) => Some(Value::Number(number(json)?)),
        Json::String(text) if text.trim().is_empty() => None,
        Json::String(text) => Some(Value::Text(text.trim().to_owned())),
        Json::Array(items) => Some(list(items)?),
        Json::Object(_) => return Err("an object".to_owned()),
    })
}

fn list(items: &[Json]) -> StdResult<Value, String> {
    let mut numbers = Vec::with_capacity(items.len());
    let mut width = None;
    for (k, item) in items.iter().enumerate() {
        let before = numbers.len();
        match item {
            Json::Array(row) => {
                for item in row {
                    numbers.push(number(item)?);
                }
            }
            item => numbers.push(number(item)?),
        }
        // a number and a list of one number are treated alike
        let found = numbers.len() - before;
        let first = *width.get_or_insert(found);
        if found != first || found == 0 {
            return Err(format!(
                "{found} numbers at position {k} of a list that begins with {first}"
            ));
        }
    }
    match width {
        Some(width) => Ok(Value::List { width, numbers }),
        None => Err("an empty list".to_owned()),
    }
}

fn number(json: &Json) -> StdResult<f64, String> {
    let number = json.as_f64().filter(|number| is_single(*number));
    number.ok_or_else(|| format!("{json} instead of a number"))
}
