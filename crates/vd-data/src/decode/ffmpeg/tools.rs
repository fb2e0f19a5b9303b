//! Finds the programs that read and write films.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The oldest release that has all options used here.
const OLDEST: [u32; 2] = [5, 1];
/// What somebody can do who has no ffmpeg.
const ADVICE: &str = "install ffmpeg 5.1 or later, or set VD_FFMPEG and VD_FFPROBE to its programs";

/// The programs `ffmpeg` and `ffprobe`, which read and write MP4 and similar formats.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ffmpeg {
    /// Decodes and encodes.
    pub ffmpeg: PathBuf,
    /// Reports what a file contains.
    pub ffprobe: PathBuf,
    /// The release, as the program reports it.
    pub version: String,
}

impl Ffmpeg {
    /// Finds the programs, once per process: at `VD_FFMPEG` and `VD_FFPROBE` if set, else on
    /// `PATH`.
    ///
    /// # Errors
    /// What is missing or too old, and how to fix it.
    pub fn find() -> Result<&'static Self, &'static str> {
        static FOUND: OnceLock<Result<Ffmpeg, String>> = OnceLock::new();
        FOUND.get_or_init(look).as_ref().map_err(String::as_str)
    }
}

fn look() -> Result<Ffmpeg, String> {
    let ffmpeg = locate("VD_FFMPEG", "ffmpeg")?;
    let ffprobe = locate("VD_FFPROBE", "ffprobe")?;
    let said = Command::new(&ffmpeg).arg("-version").stdin(Stdio::null()).output();
    let said =
        said.map_err(|e| format!("{}: could not be run: {e}; {ADVICE}", ffmpeg.display()))?;
    let text = String::from_utf8_lossy(&said.stdout);
    let version = text.split_whitespace().nth(2).unwrap_or("of unknown version");
    if !text.starts_with("ffmpeg version ") || is_too_old(version) {
        let name = ffmpeg.display();
        return Err(format!("{name}: is {version}, expected ffmpeg 5.1 or later; {ADVICE}"));
    }
    Ok(Ffmpeg { version: version.to_owned(), ffmpeg, ffprobe })
}

/// Releases are numbered; nightly builds are not, and are assumed to be new enough.
fn is_too_old(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('n').split(['.', '-']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => [major, minor] < OLDEST,
        (Some(Ok(major)), _) => major < OLDEST[0],
        _ => false,
    }
}

fn locate(variable: &str, name: &str) -> Result<PathBuf, String> {
    let named = std::env::var_os(variable).filter(|named| !named.is_empty());
    let paths = std::env::var_os("PATH").unwrap_or_default();
    match named {
        None => on_path(OsStr::new(name), &paths)
            .ok_or_else(|| format!("there is no `{name}` on PATH; {ADVICE}")),
        Some(named) => {
            let path = PathBuf::from(&named);
            let bare = path.file_name() == Some(&named);
            let found = if bare { on_path(&named, &paths) } else { Some(path) };
            found.filter(|path| is_program(path)).ok_or_else(|| {
                format!("{variable} = {}: is not a program; {ADVICE}", named.to_string_lossy())
            })
        }
    }
}

fn on_path(name: &OsStr, paths: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(paths)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|path| is_program(path))
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_told_from_older_ones() {
        for old in ["4.4.2", "5.0", "n4.3", "3", "5.0.1-3ubuntu5", "0.11"] {
            assert!(is_too_old(old), "{old}");
        }
        for new in ["5.1.9-0+deb12u1", "6", "n7.1", "7.0.2-static", "N-113007-g8d24a28d06", "10.0"]
        {
            assert!(!is_too_old(new), "{new}");
        }
    }
}
