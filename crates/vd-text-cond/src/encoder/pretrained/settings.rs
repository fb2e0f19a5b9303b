//! Access to a config.json.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Error, Result};

/// A JSON object in a file, read key by key.
///
/// A null value counts as absent, as in transformers.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    path: PathBuf,
    /// The path of keys to this object, each followed by a dot.
    place: String,
    value: Value,
}

impl Settings {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path);
        let bytes = bytes.map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
        let damaged = |got: String| Error::Pretrained {
            path: path.to_path_buf(),
            what: "content".to_owned(),
            expected: "a JSON object".to_owned(),
            got,
        };
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if !value.is_object() {
            return Err(damaged("another JSON value".to_owned()));
        }
        Ok(Settings { path: path.to_path_buf(), place: String::new(), value })
    }

    /// The object under a key, if present.
    pub(super) fn part(&self, key: &str) -> Option<Settings> {
        let value = self.get(key).filter(|value| value.is_object())?.clone();
        Some(Settings { path: self.path.clone(), place: format!("{}{key}.", self.place), value })
    }

    /// The error for a value that is not as expected.
    pub(super) fn refuse(
        &self,
        key: &str,
        expected: impl Into<String>,
        got: impl Into<String>,
    ) -> Error {
        Error::Pretrained {
            path: self.path.clone(),
            what: format!("{}{key}", self.place),
            expected: expected.into(),
            got: got.into(),
        }
    }

    /// An integer of at least 1, such as a width.
    pub(super) fn size(&self, key: &str) -> Result<i64> {
        self.needed(key, "a whole number of at least 1", size)
    }

    pub(super) fn size_or(&self, key: &str, default: i64) -> Result<i64> {
        self.maybe(key, "a whole number of at least 1", size).map(|n| n.unwrap_or(default))
    }

    /// An integer of at least 0, such as a token's id.
    pub(super) fn id_or(&self, key: &str, default: i64) -> Result<i64> {
        let id = |value: &Value| value.as_i64().filter(|n| *n >= 0);
        self.maybe(key, "a whole number of at least 0", id).map(|n| n.unwrap_or(default))
    }

    /// A positive number, such as the epsilon of a norm.
    pub(super) fn float_or(&self, key: &str, default: f64) -> Result<f64> {
        let float = |value: &Value| value.as_f64().filter(|x| *x > 0.0 && x.is_finite());
        self.maybe(key, "a number above 0", float).map(|x| x.unwrap_or(default))
    }

    pub(super) fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        self.maybe(key, "true or false", Value::as_bool).map(|x| x.unwrap_or(default))
    }

    pub(super) fn text(&self, key: &str) -> Result<&str> {
        self.needed(key, "a text", Value::as_str)
    }

    pub(super) fn text_or<'a>(&'a self, key: &str, default: &'a str) -> Result<&'a str> {
        self.maybe(key, "a text", Value::as_str).map(|x| x.unwrap_or(default))
    }

    /// An object whose values are strings.
    pub(super) fn texts(&self, key: &str) -> Result<BTreeMap<String, String>> {
        let texts = |value: &Value| serde_json::from_value(value.clone()).ok();
        self.needed(key, "an object of texts", texts)
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    fn maybe<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.refuse(key, expected, value.to_string()))
    }

    fn needed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T> {
        let value = self.maybe(key, expected, read)?;
        value.ok_or_else(|| self.refuse(key, expected, "nothing"))
    }
}

/// Larger than any axis of a model, and no product of two overflows.
const LONGEST_AXIS: i64 = 1 << 30;

fn size(value: &Value) -> Option<i64> {
    value.as_i64().filter(|n| (1..=LONGEST_AXIS).contains(n))
}
