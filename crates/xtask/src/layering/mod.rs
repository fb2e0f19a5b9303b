//! `layering`: checks the rules of docs/architecture.md that can be checked automatically.

mod edges;
mod sources;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, at, failed};
use crate::paths;
use crate::stage;

const SOURCES: [&str; 3] = ["crates", "examples", "benches"];

pub(crate) fn run() -> Result<()> {
    let mut errors = edges::violations(&edges::parse(&tree()?));
    let mut warnings = Vec::new();
    let root = paths::root()?;
    let mut files = Vec::new();
    for dir in SOURCES {
        collect(&root.join(dir), &mut files)?;
    }
    files.sort();
    for file in &files {
        let source = fs::read_to_string(file).map_err(at("read", file))?;
        let path = file.strip_prefix(&root).unwrap_or(file).to_string_lossy();
        let found = sources::check(&path, &source);
        errors.extend(found.errors);
        warnings.extend(found.warnings);
    }
    for warning in &warnings {
        eprintln!("warning: {warning}");
    }
    for error in &errors {
        eprintln!("error: {error}");
    }
    match errors.len() {
        0 => {
            eprintln!("xtask: {} source files respect their layers", files.len());
            Ok(())
        }
        n => failed(format!("the architecture is violated in {n} places")),
    }
}

/// Direct dependencies of every crate of the workspace, including those of tests and build scripts.
fn tree() -> Result<String> {
    let mut cargo = stage::bare_cargo();
    cargo.current_dir(paths::root()?).args(["tree", "--workspace", "--all-features"]);
    cargo.args(["--edges", "normal,build,dev", "--depth", "1", "--prefix", "depth"]);
    let output = cargo.output().map_err(|e| Error::Failed(format!("cannot run cargo: {e}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return failed(format!("`cargo tree` failed: {}", said.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The Rust files below a folder.
fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(at("read", dir))? {
        let path = entry.map_err(at("read", dir))?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if path.is_dir() && !hidden && !path.is_symlink() && !path.ends_with("target") {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
