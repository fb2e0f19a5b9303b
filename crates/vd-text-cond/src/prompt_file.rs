//! Files of prompts: one per line, or JSON Lines with settings.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Error, Part, Result, SignalValue, Text};

/// The content of one line of a prompt file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PromptLine {
    /// Its number in the file, from 1, also counting lines without a prompt.
    pub line: usize,
    /// What the clip shows; `None` if only signals are given.
    pub text: Option<Text>,
    /// Seed of its noise.
    pub seed: Option<u64>,
    /// The guidance scale of the text.
    pub scale: Option<f64>,
    /// Number of frames of the clip.
    pub frames: Option<i64>,
    /// Further conditioning of the clip.
    pub signals: BTreeMap<String, LineSignal>,
}

/// A signal of a line.
#[derive(Debug, Clone, PartialEq)]
pub struct LineSignal {
    /// Its value for the clip.
    pub value: SignalValue,
    /// Its guidance scale.
    pub scale: Option<f64>,
}

const KEYS: [&str; 9] =
    ["prompt", "parts", "until", "negative", "seed", "scale", "frames", "signals", "note"];

/// Reads the prompts of a file, in order.
///
/// A .txt file holds one [`Text`] per line, in the grammar of [`Text::parse`]: a line without marks
/// is one prompt byte for byte, including surrounding blanks. A .jsonl file holds one object per
/// line, with `prompt` (a text of the same grammar) or `parts` (a list of
/// `{"prompt": .., "weight": ..}`, taken literally), and any of `until` and `negative` (in either
/// form), `seed`, `scale`, `frames` and `signals`, whose entries are a value, or
/// `{"value": .., "scale": ..}`. A `note` may hold anything, and is ignored.
///
/// Blank lines are ignored in both; they count in line numbers, but not as prompts.
///
/// # Errors
/// Another file extension; a file that cannot be read, is not UTF-8 or holds no prompt; a line that
/// is not as described, with its number.
pub fn read_prompts(path: &Path) -> Result<Vec<PromptLine>> {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    let file = |expected: &str, got: &str| {
        let (what, path) = ("prompts".to_owned(), path.to_path_buf());
        Error::Embeddings { path, what, expected: expected.to_owned(), got: got.to_owned() }
    };
    let read = match ending.as_deref() {
        Some("txt") => text_line,
        Some("jsonl") => json_line,
        _ => return Err(file("NAME.txt or NAME.jsonl", "another extension")),
    };
    let bytes =
        std::fs::read(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
    let content = String::from_utf8(bytes).map_err(|_| file("text in UTF-8", "other bytes"))?;
    let content = content.strip_prefix('\u{feff}').unwrap_or(&content);
    let lines = content.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let prompts = lines.map(|(i, line)| {
        let read = read(line).map_err(|wrong| Error::PromptFile {
            path: path.to_path_buf(),
            line: i + 1,
            what: wrong.what,
            expected: wrong.expected,
            got: wrong.got,
        });
        Ok(PromptLine { line: i + 1, ..read? })
    });
    let prompts: Vec<_> = prompts.collect::<Result<_>>()?;
    if prompts.is_empty() {
        return Err(file("at least one prompt", "none"));
    }
    Ok(prompts)
}

/// The error of a line.
struct Wrong {
    what: String,
    expected: String,
    got: String,
}

fn wrong(what: &str, expected: impl Into<String>, got: impl Into<String>) -> Wrong {
    Wrong { what: what.to_owned(), expected: expected.into(), got: got.into() }
}

fn text_line(line: &str) -> std::result::Result<PromptLine, Wrong> {
    let text = Some(parsed("prompt", Text::parse(line))?);
    Ok(PromptLine { text, ..PromptLine::default() })
}

fn json_line(line: &str) -> std::result::Result<PromptLine, Wrong> {
    let object: Value = serde_json::from_str(line)
        .map_err(|error| wrong("line", "a JSON object", format!("invalid JSON ({error})")))?;
    let Value::Object(keys) = &object else {
        return Err(wrong("line", "a JSON object", shown(&object)));
    };
    if let Some(key) = keys.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(wrong("line", format!("the keys {}", KEYS.join(", ")), format!("`{key}`")));
    }
    let line = PromptLine {
        line: 0,
        text: text_of(keys)?,
        seed: value(keys, "seed", "a whole number from 0", Value::as_u64)?,
        scale: value(keys, "scale", "a number", Value::as_f64)?,
        frames: value(keys, "frames", "a whole number from 1", |value| {
            value.as_i64().filter(|frames| *frames > 0)
        })?,
        signals: signals(keys)?,
    };
    if line.text.is_none() && line.signals.is_empty() {
        return Err(wrong("line", "`prompt`, `parts` or `signals`", "none of them"));
    }
    if line.text.is_none() && line.scale.is_some() {
        let expected = "a `prompt` or `parts` next to it to scale (a signal's scale is in \
                        its {\"value\": .., \"scale\": ..})";
        return Err(wrong("scale", expected, "neither"));
    }
    Ok(line)
}

fn text_of(keys: &Map<String, Value>) -> std::result::Result<Option<Text>, Wrong> {
    let mut text = match (keys.get("prompt"), keys.get("parts")) {
        (Some(_), Some(_)) => return Err(wrong("line", "`prompt` or `parts`", "both")),
        (Some(Value::String(prompt)), None) => parsed("prompt", Text::parse(prompt))?,
        (Some(other), None) => return Err(wrong("prompt", "text", shown(other))),
        (None, Some(list)) => Text { parts: parts("parts", list)?, until: None, negative: None },
        (None, None) => match ["until", "negative"].iter().find(|key| keys.contains_key(**key)) {
            Some(key) => return Err(wrong(key, "a `prompt` or `parts` next to it", "neither")),
            None => return Ok(None),
        },
    };
    if let Some(until) = keys.get("until") {
        if text.until.is_some() {
            return Err(wrong("until", "no `->` in the prompt next to it", "one"));
        }
        text.until = Some(parts("until", until)?);
    }
    text.negative = keys.get("negative").map(|list| parts("negative", list)).transpose()?;
    parsed("weight", text.validate())?;
    Ok(Some(text))
}

/// Parts, written as a text or as a list.
fn parts(key: &str, value: &Value) -> std::result::Result<Vec<Part>, Wrong> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Written {
        prompt: String,
        #[serde(default = "one")]
        weight: f64,
    }
    fn one() -> f64 {
        1.0
    }
    if let Value::String(text) = value {
        let Text { parts, until, .. } = parsed(key, Text::parse(text))?;
        return match until {
            None => Ok(parts),
            Some(_) => Err(wrong(key, "a text without `->`", shown(value))),
        };
    }
    let expected = "a list of {\"prompt\": text, \"weight\": number above 0}";
    let list: Vec<Written> = Vec::deserialize(value)
        .map_err(|error| wrong(key, expected, format!("{} ({error})", shown(value))))?;
    if list.is_empty() {
        return Err(wrong(key, expected, "an empty list"));
    }
    Ok(list.into_iter().map(|Written { prompt, weight }| Part { prompt, weight }).collect())
}

fn signals(keys: &Map<String, Value>) -> std::result::Result<BTreeMap<String, LineSignal>, Wrong> {
    let mut signals = BTreeMap::new();
    let given = match keys.get("signals") {
        None => return Ok(signals),
        Some(Value::Object(given)) => given,
        Some(other) => return Err(wrong("signals", "an object of names and values", shown(other))),
    };
    for (name, given) in given {
        let what = format!("signals.{name}");
        let (value, scale) = match given {
            Value::Object(both) => {
                if let Some(key) = both.keys().find(|key| !["value", "scale"].contains(&&***key)) {
                    return Err(wrong(&what, "the keys value, scale", format!("`{key}`")));
                }
                (
                    both.get("value").unwrap_or(&Value::Null),
                    self::value(both, "scale", "a number", Value::as_f64)?,
                )
            }
            value => (value, None),
        };
        let value = SignalValue::deserialize(value)
            .map_err(|error| wrong(&what, error.to_string(), shown(value)))?;
        signals.insert(name.clone(), LineSignal { value, scale });
    }
    Ok(signals)
}

fn value<T>(
    keys: &Map<String, Value>,
    key: &str,
    expected: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> std::result::Result<Option<T>, Wrong> {
    let Some(value) = keys.get(key) else { return Ok(None) };
    read(value).map(Some).ok_or_else(|| wrong(key, expected, shown(value)))
}

fn parsed<T>(what: &str, result: Result<T>) -> std::result::Result<T, Wrong> {
    result.map_err(|error| match error {
        Error::Prompt { text, expected, got } => {
            wrong(what, expected, format!("{got} in \"{text}\""))
        }
        other => wrong(what, "a text", other.to_string()),
    })
}

/// A value, shortened if it is long.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST).chain("...".chars()).collect()
}
