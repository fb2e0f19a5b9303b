//! A command's output on stdout: a text, or one JSON object.

use std::io::{self, Write};

use anyhow::{Error, Result};
use serde::Serialize;
use serde_json::json;

/// Out-of-memory messages of allocators.
const OUT_OF_MEMORY: [&str; 6] = [
    "can't allocate memory",
    "annot allocate memory",
    "out of memory",
    "Storage size calculation overflowed",
    "numel: integer multiplication overflow",
    "capacity overflow",
];
/// Advice for running out of memory.
const USE_LESS: &str = "use a smaller batch, fewer frames or a smaller size";

/// The result of a completed command.
#[derive(Debug)]
pub(crate) struct Outcome {
    json: String,
    text: String,
    success: bool,
}

impl Outcome {
    /// The result, as a serialisable report and as text.
    pub(crate) fn new(report: &impl Serialize, text: impl Into<String>) -> Result<Self> {
        Ok(Outcome { json: serde_json::to_string(report)?, text: text.into(), success: true })
    }

    /// The same, marked as a failure if `success` is false.
    pub(crate) fn with_success(self, success: bool) -> Self {
        Outcome { success, ..self }
    }

    /// Whether the command succeeded.
    pub(crate) fn success(&self) -> bool {
        self.success
    }
}

/// A usage error: the command line is wrong, whatever the files contain.
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

/// Writes why a command failed: to stderr, and with --json also as an object to stdout.
pub(crate) fn show_error(message: &str, as_json: bool) -> io::Result<()> {
    note(&format!("error: {message}"));
    if as_json { json_error(message) } else { Ok(()) }
}

/// An error with its causes. Many errors already quote their cause, which is not repeated.
pub(crate) fn message(error: &Error) -> String {
    let causes = error.chain().map(|cause| without_frames(&cause.to_string()));
    let said = causes.fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        already if already.contains(&cause) => said,
        // The same file may be named both by the error of opening it and by the error of reading
        // it.
        already if cause.starts_with(&format!("{already}: ")) => cause,
        _ => format!("{said}: {cause}"),
    });
    let advised = said.contains("lower train.batch");
    if !advised && OUT_OF_MEMORY.iter().any(|words| said.contains(words)) {
        return format!("{said}; {USE_LESS}");
    }
    said
}

/// The message of a panic, on one line. tch panics with libtorch's own message, quoted.
pub(crate) fn panicked(message: &str) -> String {
    let quoted = message.split_once(" value: Torch(\"").map(|(_, quoted)| quoted);
    let (origin, text) = match quoted {
        Some(quoted) => ("libtorch", quoted.trim_end_matches("\")").replace("\\n", "\n")),
        None => ("internal error in vd", message.to_owned()),
    };
    let text = without_frames(&text.replace("\\\"", "\"").replace("\\'", "'"));
    format!("{origin}: {}", text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A message of libtorch without its C++ stack trace.
fn without_frames(text: &str) -> String {
    let stack =
        |line: &&str| line.starts_with("Exception raised from") || line.starts_with("frame #");
    text.lines().filter(|line| !stack(line)).collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

/// Writes the JSON object of a failure to stdout.
pub(crate) fn json_error(message: &str) -> io::Result<()> {
    line(&json!({ "error": message }).to_string())
}

/// Writes one line to stderr that no log filter hides. A closed stderr is not an error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes a line or text to stdout. A reader that stops early (`vd inspect X | head -1`) is not an
/// error.
fn line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// A number of bytes for people to read.
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

/// A count for people to read: 1_234_567 as 1,234,567.
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
        let named = Error::msg("a.gif: cannot be read").context("a.gif");
        assert_eq!(message(&named), "a.gif: cannot be read");
    }

    #[test]
    fn the_cpp_stack_of_libtorch_is_left_out() {
        let torch = "shape '[2]' is invalid\nException raised from infer at a.h:7 (most recent \
                     call first):\nframe #0: c10::Error + 0x9d (0x7f in /lib/libc10.so)\nframe #1: x\n";
        let error = Error::msg(format!("libtorch: {torch}")).context("sampling");
        assert_eq!(message(&error), "sampling: libtorch: shape '[2]' is invalid");
        let quoted = format!("called `Result::unwrap()` on an `Err` value: {:?}", Torch(torch));
        assert_eq!(panicked(&quoted), "libtorch: shape '[2]' is invalid");
        assert!(panicked("index 3").ends_with(": index 3"));
    }

    #[derive(Debug)]
    struct Torch(#[allow(dead_code, reason = "shown by Debug")] &'static str);

    #[test]
    fn where_memory_ran_out_the_way_out_is_named() {
        let torch = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't \
                     allocate memory: you tried to allocate 1000 bytes. Error code 12";
        assert_eq!(message(&Error::msg(torch)), format!("{torch}; {USE_LESS}"));
        assert_eq!(message(&Error::msg("no such file")), "no such file");
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([count(7), count(1234), count(12_345_678)], ["7", "1,234", "12,345,678"]);
        assert_eq!([bytes(512), bytes(1536), bytes(123_456_789)], ["512 B", "1.5 kB", "123 MB"]);
        assert_eq!([plural(1, "clip"), plural(2000, "clip")], ["1 clip", "2,000 clips"]);
    }
}
