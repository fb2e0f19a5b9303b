//! Finds a Python that has pip.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::paths;

/// The first pip that accepts several `--platform`s.
const OLDEST_PIP: (u32, u32) = (20, 3);

/// An interpreter with pip: the user's, else one in a virtual environment made at `venv`.
pub(crate) fn with_pip(venv: &Path) -> Result<PathBuf> {
    let python = interpreter().map_err(|sought| {
        Error::Failed(format!(
            "there is no {sought}, but libtorch is downloaded with pip: install Python 3 with pip \
             (Debian: apt install python3-pip), or set LIBTORCH to a libtorch {}",
            crate::find::VERSION
        ))
    })?;
    let Err(why) = pip_of(&python) else { return Ok(python) };
    let made = made_venv(&python, venv);
    made.map_err(|and| {
        Error::Failed(format!(
            "{} has no usable pip ({why}) and cannot create a virtual environment \
             ({and}): install pip (Debian: apt install python3-pip), or set LIBTORCH to a \
             libtorch {}",
            python.display(),
            crate::find::VERSION
        ))
    })
}

/// An interpreter with pip in a new virtual environment at `venv`.
pub(crate) fn environment(venv: &Path) -> Result<PathBuf> {
    let made = interpreter()
        .map_err(|sought| format!("there is no {sought}"))
        .and_then(|python| made_venv(&python, venv));
    made.map_err(|why| {
        Error::Failed(format!(
            "could not create the virtual environment {} ({why}): install Python 3 with its venv \
             module (Debian: apt install python3-venv), or set PYTHON to one that has it",
            venv.display()
        ))
    })
}

/// The Python in the variable PYTHON, else the first on the PATH; the error is what was searched
/// for.
fn interpreter() -> std::result::Result<PathBuf, String> {
    let named = env::var("PYTHON").ok().filter(|p| !p.is_empty());
    let found = match &named {
        Some(python) => paths::which(python),
        None => ["python3", "python"].into_iter().find_map(paths::which),
    };
    found.ok_or_else(|| named.map_or("python3 on the PATH".to_owned(), |p| format!("PYTHON={p}")))
}

fn made_venv(python: &Path, venv: &Path) -> std::result::Result<PathBuf, String> {
    output(Command::new(python).args(["-m", "venv"]).arg(venv)).map_err(|said| {
        // The advice after these words is about another approach than ours.
        let ensurepip = said.contains("ensurepip").then(|| "ensurepip is missing".to_owned());
        ensurepip.unwrap_or_else(|| last_line(&said))
    })?;
    let inside = venv.join("bin/python");
    pip_of(&inside)?;
    Ok(inside)
}

fn pip_of(python: &Path) -> std::result::Result<(), String> {
    let mut pip = Command::new(python);
    let said = output(pip.args(["-m", "pip", "--version"])).map_err(|said| last_line(&said))?;
    match pip_version(&said) {
        Some(found) if found >= OLDEST_PIP => Ok(()),
        Some((major, minor)) => {
            let (m, n) = OLDEST_PIP;
            Err(format!("pip {major}.{minor}, but {m}.{n} is needed"))
        }
        None => Err(format!("`pip --version` says: {}", last_line(&said))),
    }
}

/// `pip 23.2.1 from /usr/lib/python3/dist-packages/pip (python 3.11)`
fn pip_version(said: &str) -> Option<(u32, u32)> {
    let line = said.lines().find_map(|line| line.strip_prefix("pip "))?;
    let mut numbers = line.split_whitespace().next()?.split('.');
    let major = numbers.next()?.parse().ok()?;
    Some((major, numbers.next().and_then(|n| n.parse().ok()).unwrap_or(0)))
}

/// The output of a command, or its error output if it failed.
fn output(command: &mut Command) -> std::result::Result<String, String> {
    let output = command.output().map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    // venv prints its reason on stdout, all others on stderr.
    Err(text + &String::from_utf8_lossy(&output.stderr))
}

pub(crate) fn last_line(text: &str) -> String {
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    line.unwrap_or("it said nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pip_tells_its_version() {
        assert_eq!(pip_version("pip 23.2.1 from /x/pip (python 3.11)\n"), Some((23, 2)));
        assert_eq!(pip_version("WARNING: x\npip 9 from /x (python 2.7)\n"), Some((9, 0)));
        assert_eq!(pip_version("no pip here"), None);
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(pip_version("pip 20.10 from").is_some_and(|v| v >= OLDEST_PIP));
        assert!(pip_version("pip 9.9 from").is_some_and(|v| v < OLDEST_PIP));
    }
}
