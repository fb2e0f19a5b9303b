//! Writes JSON, since this program has no dependencies.

use std::fmt;

/// A value, written with an indentation of two blanks; lists of plain values stay on one line.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl Json {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Json::Text(text.into())
    }

    pub(super) fn count(count: usize) -> Self {
        Json::Number(count as f64)
    }

    pub(super) fn numbers(numbers: &[f64]) -> Self {
        Json::List(numbers.iter().copied().map(Json::Number).collect())
    }

    fn is_plain(&self) -> bool {
        !matches!(self, Json::List(_) | Json::Object(_))
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(value) => write!(f, "{value}"),
            // JSON cannot represent them.
            Json::Number(value) if !value.is_finite() => f.write_str("null"),
            Json::Number(value) => write!(f, "{value}"),
            Json::Text(text) => quoted(f, text),
            Json::List(items) if items.iter().all(Json::is_plain) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { ", " })?;
                    item.write(f, depth)?;
                }
                f.write_str("]")
            }
            Json::List(items) => {
                block(f, depth, ['[', ']'], items, |f, item| item.write(f, depth + 1))
            }
            Json::Object(fields) => block(f, depth, ['{', '}'], fields, |f, (name, value)| {
                quoted(f, name)?;
                f.write_str(": ")?;
                value.write(f, depth + 1)
            }),
        }
    }
}

/// One line per item between two brackets.
fn block<T>(
    f: &mut fmt::Formatter<'_>,
    depth: usize,
    [open, close]: [char; 2],
    items: &[T],
    mut write: impl FnMut(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    write!(f, "{open}")?;
    for (i, item) in items.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        write!(f, "{comma}\n{:1$}", "", 2 * (depth + 1))?;
        write(f, item)?;
    }
    write!(f, "\n{:1$}{close}", "", 2 * depth)
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            c if c < ' ' => write!(f, "\\u{:04x}", c as u32)?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_the_format_wants_them() {
        let value = Json::Object(vec![
            ("name", Json::text("a \"b\" \\ c\n")),
            ("times", Json::numbers(&[1.5, 2.0, 1e-7, f64::NAN])),
            ("none", Json::Null),
            ("rows", Json::List(vec![Json::Object(vec![("idle", Json::Bool(true))])])),
        ]);
        let wanted = "{\n  \"name\": \"a \\\"b\\\" \\\\ c\\u000a\",\n  \
                      \"times\": [1.5, 2, 0.0000001, null],\n  \"none\": null,\n  \
                      \"rows\": [\n    {\n      \"idle\": true\n    }\n  ]\n}";
        assert_eq!(value.to_string(), wanted);
    }
}
