//! Settings given in addition to the config file, `section.key=value`.

use std::path::Path;

use toml::{Table, Value};

use super::plain::plain;
use crate::{Error, Result, RunConfig};

/// The config that results from `text` with the overrides applied in order.
pub(super) fn parse(path: &Path, text: &str, overrides: &[String]) -> Result<RunConfig> {
    // Without overrides the text itself is parsed, so that errors point at their line.
    let alone = toml::from_str::<RunConfig>(text);
    if overrides.is_empty() {
        return alone.map_err(|e| in_file(path, &e));
    }
    let table: Table = toml::from_str(text).map_err(|e| in_file(path, &e))?;
    let error = match read(&table, overrides)? {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    if let Some(text) = culprit(&table, overrides)? {
        let message = shown(&error) + &of_another_kind(&table, &text, &error).unwrap_or_default();
        return Err(Error::Override { text, message });
    }
    Err(match alone {
        // The error is in the file itself and no override fixes it: the first error has the line.
        Err(own) if own.message() == error.message() => in_file(path, &own),
        _ => {
            let message = format!("{} (with --set {})", shown(&error), overrides.join(", "));
            Error::Parse { path: path.to_path_buf(), message }
        }
    })
}

/// The override without which the config is valid.
fn culprit(table: &Table, overrides: &[String]) -> Result<Option<String>> {
    for k in 0..overrides.len() {
        let others = [&overrides[..k], &overrides[k + 1..]].concat();
        if read(table, &others)?.is_ok() {
            return Ok(Some(overrides[k].clone()));
        }
    }
    Ok(None)
}

/// What to do where the setting belongs to another kind than the one that the file names.
fn of_another_kind(table: &Table, text: &str, error: &toml::de::Error) -> Option<String> {
    let (key, value) = text.split_once('=')?;
    let (section, last) = key.trim().rsplit_once('.')?;
    let mut at = table;
    for part in section.split('.') {
        at = at.get(part.trim())?.as_table()?;
    }
    let kind = at.get("kind")?.as_str().filter(|_| error.message().starts_with("unknown field"))?;
    let value = parse_value(value);
    Some(format!(
        "\n`{section}` is of kind `{kind}`; to change the kind, set the whole table: \
         --set '{section}={{kind=\"...\", {last}={value}}}'"
    ))
}

fn read(
    table: &Table,
    overrides: &[String],
) -> Result<std::result::Result<RunConfig, toml::de::Error>> {
    let mut table = table.clone();
    for text in overrides {
        apply(&mut table, text)?;
    }
    Ok(Value::Table(table).try_into())
}

/// Sets one value, creating the sections above it if necessary.
fn apply(table: &mut Table, text: &str) -> Result<()> {
    let refuse = |message: String| Error::Override { text: text.to_owned(), message };
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| refuse("expected section.key=value, got no `=`".to_owned()))?;
    let parts: Vec<_> = key.split('.').map(str::trim).collect();
    let Some((last, sections)) = parts.split_last() else { return Ok(()) };
    if sections.is_empty() || parts.iter().any(|part| part.is_empty()) {
        return Err(refuse(format!("expected section.key=value, got the key `{key}`")));
    }
    let mut at = table;
    for (depth, section) in sections.iter().enumerate() {
        let below = at.entry(*section).or_insert_with(|| Value::Table(Table::new()));
        at = below.as_table_mut().ok_or_else(|| {
            refuse(format!("`{}` is a value, not a section", parts[..=depth].join(".")))
        })?;
    }
    at.insert((*last).to_owned(), parse_value(value));
    Ok(())
}

/// Parses a TOML value; anything else is a string: paths and names need no quotes.
fn parse_value(text: &str) -> Value {
    let text = text.trim();
    let parsed = toml::from_str::<Table>(&format!("value = {text}")).ok();
    let single = parsed.filter(|table| table.len() == 1).and_then(|mut t| t.remove("value"));
    match single {
        // No setting is a date, so something that looks like one is the name of a folder.
        None | Some(Value::Datetime(_)) => Value::String(text.to_owned()),
        Some(value) => value,
    }
}

fn in_file(path: &Path, error: &toml::de::Error) -> Error {
    Error::Parse { path: path.to_path_buf(), message: shown(error) }
}

fn shown(error: &toml::de::Error) -> String {
    plain(error.to_string().trim_end())
}
