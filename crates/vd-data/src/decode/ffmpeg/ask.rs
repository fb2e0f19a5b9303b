//! Command lines of ffmpeg and ffprobe, and what their exit status means.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

use super::index::Start;
use super::{Container, Ffmpeg};
use crate::process::{PATIENCE, Process};
use crate::{Error, Result};

/// How many characters of an error message are passed on.
const SHOWN: usize = 300;
/// ffmpeg's exit status after a termination signal; its output is then incomplete.
const ASKED_TO_END: i32 = 255;

/// The programs, or an error that says why the file cannot be read.
pub(super) fn tools(path: &Path, container: Container) -> Result<&'static Ffmpeg> {
    Ffmpeg::find().map_err(|why| Error::NeedsFfmpeg {
        path: path.to_path_buf(),
        format: container.name(),
        why: why.to_owned(),
    })
}

/// Lists fields of the packets, frames and streams of a file.
pub(super) fn probe(path: &Path, container: Container, fields: &str) -> Result<Process> {
    let mut command = Command::new(&tools(path, container)?.ffprobe);
    command.args(["-v", "error", "-threads", "1"]);
    input(&mut command, path, container)?;
    command.args(["-select_streams", "V:0", "-show_entries", fields, "-of", "compact"]);
    start(path, &mut command)
}

/// Decodes frames to red, green, blue: every `step`-th from `from` on, `n` in total.
pub(super) fn decode(
    path: &Path,
    container: Container,
    from: Start,
    [step, n]: [usize; 2],
) -> Result<Process> {
    let mut command = Command::new(&tools(path, container)?.ffmpeg);
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error", "-xerror", "-threads", "1"]);
    if let Some(at) = from.at {
        // a time on the file's own clock, which need not begin at 0
        command.args(["-seek_timestamp", "1", "-ss", &format!("{at:.7}")]);
    }
    input(&mut command, path, container)?;
    let skip = from.skip;
    let select = match (skip, step) {
        (0, 1) => "null".to_owned(),
        _ => format!("select='gte(n,{skip})*not(mod(n-{skip},{step}))'"),
    };
    command.args(["-map", "0:V:0", "-vf", &select, "-fps_mode", "passthrough"]);
    command.args(["-frames:v", &n.to_string(), "-f", "rawvideo", "-pix_fmt", "rgb24"]);
    command.args(["-sws_flags", "bicubic+accurate_rnd+full_chroma_int", "pipe:1"]);
    start(path, &mut command)
}

/// Reads all packets without decoding, to check that the file is complete.
pub(super) fn walk(path: &Path, container: Container) -> Result<()> {
    let mut command = Command::new(&tools(path, container)?.ffmpeg);
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error", "-xerror"]);
    input(&mut command, path, container)?;
    command.args(["-map", "0:V:0", "-c", "copy", "-f", "null", "-"]);
    let process = start(path, &mut command)?;
    finish(path, container, process).map(drop)
}

/// Refuses a file whose error messages say that it is truncated.
pub(super) fn check_whole(path: &Path, container: Container, complaints: &str) -> Result<()> {
    const CUT: [&str; 3] = ["ended prematurely", "partial file", "Truncat"];
    if CUT.iter().any(|words| complaints.contains(words)) {
        let expected = format!("a complete {} file", container.name());
        let said = complaint(path, complaints);
        return Err(Error::damaged(path, expected, format!("the ffmpeg error: {said}")));
    }
    Ok(())
}

/// Passes the file name so that no part of it is misinterpreted, such as `-`, `%d` or `http:`. The
/// file is read as the format of its first bytes: a text file with a film's extension that names
/// other files is refused.
fn input(command: &mut Command, path: &Path, container: Container) -> Result<()> {
    let mut name = OsString::from("file:");
    name.push(std::path::absolute(path).map_err(|e| Error::read(path, e))?);
    command.args(["-protocol_whitelist", "file", "-f", container.demuxer(), "-i"]).arg(name);
    Ok(())
}

fn start(path: &Path, command: &mut Command) -> Result<Process> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Process::start(command, PATIENCE).map_err(|e| Error::Ffmpeg {
        path: path.to_path_buf(),
        detail: format!("could not be started: {e}"),
    })
}

/// The error when reading a program's output fails; silence is blamed on the file.
pub(super) fn failed(path: &Path, error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::TimedOut => Error::damaged(
            path,
            "a video that ffmpeg can decode without stalling",
            error.to_string(),
        ),
        _ => Error::Ffmpeg { path: path.to_path_buf(), detail: error.to_string() },
    }
}

/// Waits for the end of a program; returns its error output if it succeeded.
pub(super) fn finish(path: &Path, container: Container, process: Process) -> Result<String> {
    let (status, complaints) = process.finish().map_err(|e| failed(path, &e))?;
    if status.success() {
        return Ok(complaints);
    }
    match status.code().filter(|code| *code != ASKED_TO_END) {
        Some(code) => {
            let said = complaint(path, &complaints);
            let said = if said.is_empty() { format!("exit status {code}") } else { said };
            let expected = format!("an intact {} file", container.name());
            Err(Error::damaged(path, expected, format!("the ffmpeg error: {said}")))
        }
        // killed from outside: that says nothing about the file
        None => {
            Err(Error::Ffmpeg { path: path.to_path_buf(), detail: format!("was ended: {status}") })
        }
    }
}

/// The first lines of the error output, joined to one line and without the name of the file.
fn complaint(path: &Path, complaints: &str) -> String {
    let name = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let name = format!("file:{}", name.to_string_lossy());
    let text = complaints.replace(&format!("{name}: "), "").replace(&name, "the file");
    let mut lines: Vec<&str> = text.lines().map(without_origin).collect();
    lines.retain(|line| !line.trim().is_empty());
    lines.dedup();
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    lines.join("; ").chars().map(plain).take(SHOWN).collect()
}

/// A line without the name and the address of the component that wrote it.
fn without_origin(line: &str) -> &str {
    match line.split_once("] ") {
        Some((origin, rest)) if origin.starts_with('[') && origin.contains(" @ 0x") => rest,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_one_line_without_names_and_addresses() {
        let said = "[mov,mp4 @ 0x55d0] moov atom not found\n\
                    file:/a/b.mp4: Invalid data found when processing input\n";
        let expected = "moov atom not found; Invalid data found when processing input";
        assert_eq!(complaint(Path::new("/a/b.mp4"), said), expected);
        assert_eq!(complaint(Path::new("/a"), &"x".repeat(999)).len(), SHOWN);
    }
}
