//! What a command says on stdout: a text, or one JSON object.

use std::io::{self, Write};

use anyhow::{Error, Result};
use serde::Serialize;
use serde_json::json;

/// The result of a command that came to its end.
#[derive(Debug)]
pub(crate) struct Outcome {
    json: String,
    text: String,
    success: bool,
}

impl Outcome {
    /// What was done, for programs and for people.
    pub(crate) fn new(report: &impl Serialize, text: impl Into<String>) -> Result<Self> {
        Ok(Outcome { json: serde_json::to_string(report)?, text: text.into(), success: true })
    }

    /// The same, as a failure where `success` is false.
    pub(crate) fn with_success(self, success: bool) -> Self {
        Outcome { success, ..self }
    }

    /// Whether the command did what it was asked for.
    pub(crate) fn success(&self) -> bool {
        self.success
    }
}

/// A failure that is the command line's fault, whatever the files say.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Writes a command's result to stdout.
pub(crate) fn show(outcome: &Outcome, as_json: bool) -> io::Result<()> {
    if as_json { line(&outcome.json) } else { line(outcome.text.trim_end()) }
}

/// Writes why a command failed: to stderr, and as an object to stdout where JSON was asked for.
pub(crate) fn show_error(message: &str, as_json: bool) -> io::Result<()> {
    note(&format!("error: {message}"));
    if as_json { json_error(message) } else { Ok(()) }
}

/// An error with its causes. Many of them quote their cause already; it is said once.
pub(crate) fn message(error: &Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        already if already.contains(&cause) => said,
        _ => format!("{said}: {cause}"),
    })
}

/// The JSON object of a failure, on stdout.
pub(crate) fn json_error(message: &str) -> io::Result<()> {
    line(&json!({ "error": message }).to_string())
}

/// One line on stderr that no log filter hides. A closed stderr is no reason to fail.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// One line or text on stdout. A reader that has seen enough (`vd inspect X | head -1`) is none of
/// our failures.
fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// A number of bytes for people.
pub(crate) fn bytes(n: u64) -> String {
    let mut value = n as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            let digits = usize::from(unit != "B" && value < 100.0);
            return format!("{value:.digits$} {unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// A count for people: 1_234_567 as 1,234,567.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `n clips`, `1 clip`.
pub(crate) fn plural(n: usize, noun: &str) -> String {
    format!("{} {noun}{}", count(n as u64), if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let inner = std::io::Error::other("the disk is full");
        let outer = Error::new(inner).context("clips: the disk is full").context("sampling");
        assert_eq!(message(&outer), "sampling: clips: the disk is full");
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([count(7), count(1234), count(12_345_678)], ["7", "1,234", "12,345,678"]);
        assert_eq!([bytes(512), bytes(1536), bytes(123_456_789)], ["512 B", "1.5 kB", "123 MB"]);
        assert_eq!([plural(1, "clip"), plural(2000, "clip")], ["1 clip", "2,000 clips"]);
    }
}
