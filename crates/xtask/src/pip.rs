//! Runs pip, shows its downloads, and summarises a failure in one line.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use crate::error::{Error, Result, failed};

/// Wheels are tagged with a Python version; since none is ever imported, any Python may fetch those
/// for this one.
const WHEELS_FOR_PYTHON: &str = "3.12";
/// torch's wheels require glibc 2.28, so those of its dependencies may too.
const NEWEST_GLIBC: u32 = 28;
/// Settings of a user's pip that conflict with an installation into a separate folder.
const CONTRARY: [&str; 4] = ["PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_NO_BINARY"];

/// One call of pip.
#[derive(Debug)]
pub(crate) struct Install<'a> {
    /// An interpreter that has pip.
    pub(crate) python: &'a Path,
    pub(crate) wheels: &'a [&'a str],
    pub(crate) dependencies: bool,
    /// The target folder of the packages.
    pub(crate) site: &'a Path,
    /// pip's temporary folder, on the same disk, since /tmp may be small.
    pub(crate) scratch: &'a Path,
    /// The file for the whole output if it contains no known error.
    pub(crate) log: &'a Path,
}

impl Install<'_> {
    pub(crate) fn run(&self) -> Result<()> {
        let (status, output) = watch(&mut self.command())?;
        if status.success() {
            return Ok(());
        }
        if let Some(signal) = status.signal() {
            return failed(format!("pip was killed by signal {signal}; run this again"));
        }
        if let Some(known) = diagnose(&output) {
            return failed(known);
        }
        let line = key_line(&output);
        match fs::write(self.log, &output) {
            Ok(()) => failed(format!("{line} (pip's whole output: {})", self.log.display())),
            Err(_) => failed(line),
        }
    }

    fn command(&self) -> Command {
        let mut pip = Command::new(self.python);
        pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input"]);
        pip.args(["--no-compile", "--progress-bar", "off", "--only-binary=:all:"]);
        pip.args(["--implementation", "cp", "--python-version", WHEELS_FOR_PYTHON]);
        for platform in platforms(std::env::consts::ARCH) {
            pip.args(["--platform", &platform]);
        }
        if !self.dependencies {
            pip.arg("--no-deps");
        }
        pip.arg("--target").arg(self.site).args(self.wheels);
        for name in CONTRARY {
            pip.env_remove(name);
        }
        pip.env("PIP_USER", "0").env("PIP_REQUIRE_VIRTUALENV", "0");
        pip.env("PYTHONUNBUFFERED", "1").env("TMPDIR", self.scratch);
        pip
    }
}

/// The platform tags of wheels that run here, the newest first.
fn platforms(arch: &str) -> Vec<String> {
    let newest_first = (5..=NEWEST_GLIBC).rev().map(|n| format!("manylinux_2_{n}_{arch}"));
    let old_names = ["manylinux2014", "manylinux2010", "manylinux1"];
    newest_first.chain(old_names.map(|name| format!("{name}_{arch}"))).collect()
}

/// Runs pip to its end, and shows the few lines of its output that indicate progress.
pub(crate) fn watch(pip: &mut Command) -> Result<(ExitStatus, String)> {
    let broken = |e| Error::Failed(format!("cannot run pip: {e}"));
    pip.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pip.spawn().map_err(broken)?;
    let errors = child.stderr.take().map(|mut stream| {
        thread::spawn(move || {
            let mut text = Vec::new();
            // If a stream breaks off, what was read until then counts.
            let _ = stream.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        })
    });
    let mut output = String::new();
    let lines = child.stdout.take().map(|stream| BufReader::new(stream).lines());
    for line in lines.into_iter().flatten().map_while(std::result::Result::ok) {
        if ["Downloading", "Using cached", "Installing"].iter().any(|w| line.trim().starts_with(w))
        {
            eprintln!("xtask:   {}", line.trim());
        }
        output.push_str(&line);
        output.push('\n');
    }
    output.extend(errors.and_then(|thread| thread.join().ok()));
    Ok((child.wait().map_err(broken)?, output))
}

/// Words that identify a network failure.
const NETWORK: [&str; 14] = [
    "Temporary failure in name resolution",
    "Name or service not known",
    "No address associated with hostname",
    "Connection refused",
    "Network is unreachable",
    "No route to host",
    "CERTIFICATE_VERIFY_FAILED",
    "Tunnel connection failed",
    "Cannot connect to proxy",
    "Connection reset by peer",
    "timed out",
    "IncompleteRead",
    "HTTP error",
    "Max retries exceeded",
];

/// A one-line message for a full disk or a network failure, with the given remedy for each.
pub(crate) fn surroundings(output: &str, disk: &str, network: &str) -> Option<String> {
    let has = |words: &str| output.contains(words);
    if has("No space left on device") || has("Disk quota exceeded") {
        return Some(format!(
            "the disk filled up while pip was installing: free some space, or {disk}, and run \
             this again"
        ));
    }
    let words = NETWORK.iter().find(|words| has(words))?;
    Some(format!(
        "pip cannot reach the package index ({words}): check the network (and PIP_INDEX_URL, \
         HTTPS_PROXY, if they are set), or {network}, and run this again"
    ))
}

/// A one-line message for failures that have a remedy.
fn diagnose(output: &str) -> Option<String> {
    let has = |words: &str| output.contains(words);
    let disk = "give `--dir DIR` on another disk";
    let network = "set LIBTORCH to a libtorch of that version";
    if let Some(known) = surroundings(output, disk, network) {
        return Some(known);
    }
    if let Some((_, after)) = output.split_once("No matching distribution found for ") {
        let wheel = after.split_whitespace().next().unwrap_or_default();
        return Some(format!(
            "pip's package index has no wheel of {wheel} for this machine ({} {}): \
             set LIBTORCH to a libtorch of that version",
            std::env::consts::OS,
            std::env::consts::ARCH,
        ));
    }
    has("cancelled by user").then(|| "pip was interrupted; run this again".to_owned())
}

/// The line that pip marks as the error, else its last line.
pub(crate) fn key_line(output: &str) -> String {
    let lines = || output.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines().rfind(|line| line.starts_with("ERROR:"));
    let said = error.or_else(|| lines().next_back()).unwrap_or("without a message");
    format!("pip failed: {}", said.trim_start_matches("ERROR:").trim())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_refused_connection_is_the_network_not_a_missing_wheel() {
        let line = diagnose(
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(\
             '<x at 0x7f>: Failed to establish a new connection: [Errno 111] Connection refused')'\n\
             ERROR: Could not find a version that satisfies the requirement torch==2.11.0 (from \
             versions: none)\nERROR: No matching distribution found for torch==2.11.0\n",
        )
        .unwrap();
        assert!(line.contains("cannot reach the package index (Connection refused)"), "{line}");
    }

    #[test]
    fn a_full_disk_is_known_in_a_traceback() {
        let line = diagnose(
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n",
        );
        assert!(line.unwrap().starts_with("the disk filled up"));
    }

    #[test]
    fn a_wheel_that_is_not_there_is_named() {
        let line = diagnose("ERROR: No matching distribution found for torch==2.11.0\n").unwrap();
        assert!(line.contains("no wheel of torch==2.11.0"), "{line}");
    }

    #[test]
    fn an_unknown_failure_shows_pips_own_last_error() {
        let output = "Traceback:\nERROR: first\nERROR: the second\nNOTE: be well\n\n";
        assert_eq!(diagnose(output), None);
        assert_eq!(key_line(output), "pip failed: the second");
        assert_eq!(key_line("Traceback:\nValueError: x\n\n"), "pip failed: ValueError: x");
        assert_eq!(key_line(""), "pip failed: without a message");
    }

    #[test]
    fn every_message_is_one_line() {
        for output in
            ["No space left on device", "timed out", "No matching distribution found for x"]
        {
            assert!(!diagnose(output).unwrap().contains('\n'));
        }
    }

    #[test]
    fn wheels_for_an_older_glibc_are_taken_too() {
        let names = platforms("x86_64");
        assert_eq!(names.first().unwrap(), "manylinux_2_28_x86_64");
        for name in ["manylinux_2_25_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"] {
            assert!(names.iter().any(|n| n == name), "{name}");
        }
    }
}
