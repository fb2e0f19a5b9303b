//! Folders that a command creates.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Creates a folder, and refuses one that is not empty: files are never mixed or replaced.
pub(crate) fn make_new(path: &Path) -> Result<()> {
    check_new(path)?;
    fs::create_dir_all(path).with_context(|| format!("{}: could not be created", path.display()))
}

/// Refuses a path that exists, unless it is an empty folder.
pub(crate) fn check_new(path: &Path) -> Result<()> {
    match fs::read_dir(path) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                bail!(
                    "{}: already exists and is not empty; choose another folder, or empty it",
                    path.display()
                );
            }
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{}: not a folder", path.display())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_new_and_empty_folders_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, file) = (dir.path().join("a/b"), dir.path().join("file"));
        make_new(&inner).unwrap();
        make_new(&inner).unwrap();
        fs::write(&file, "x").unwrap();
        assert!(make_new(&file).unwrap_err().to_string().contains("not a folder"));
        assert!(make_new(dir.path()).unwrap_err().to_string().contains("not empty"));
    }
}
