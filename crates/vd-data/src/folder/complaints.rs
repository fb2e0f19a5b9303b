//! Warnings and errors about folders with missing or bad content.

use std::path::Path;

use super::{BadFile, Entry, Folder};
use crate::{Error, Result};

impl Folder {
    pub(crate) fn no_clips(&self) -> Error {
        if crate::shards::is_shards(&self.root) {
            let detail = "it holds prepared clips: read them with data.source = { kind = \"shards\", path = ... }";
            return Error::NoClips { folder: self.root.clone(), detail: detail.to_owned() };
        }
        let mut detail = String::from(
            "expected GIF, APNG, WebP, MP4, MOV, WebM, MKV, AVI, folders of PNG, JPEG or WebP frames, or \
             arrays (.npy, .npz, .safetensors); found ",
        );
        if self.bad.is_empty() && self.other.is_empty() {
            detail.push_str("no file");
        }
        if let Some(first) = BadFile::lines(&self.bad).first() {
            detail.push_str(&format!(
                "{} that cannot be read, the first: {}",
                self.bad.len(),
                first
            ));
        }
        if !self.other.is_empty() {
            let kinds: Vec<_> = self.other.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
            let joint = if self.bad.is_empty() { "" } else { "; and " };
            detail.push_str(&format!("{joint}files of other kinds: {}", kinds.join(", ")));
        }
        Error::NoClips { folder: self.root.clone(), detail }
    }
}

/// The log message about clips without a row in the table.
pub(super) fn without_rows(entries: &[Entry], table: &Path) -> Option<String> {
    const SHOWN: usize = 5;
    let names: Vec<_> = entries.iter().filter(|entry| entry.row.is_none()).collect();
    if names.is_empty() {
        return None;
    }
    let (count, clips, table) = (names.len(), entries.len(), table.display());
    let shown: Vec<_> = names.iter().take(SHOWN).map(|entry| format!("{:?}", entry.name)).collect();
    let more = count.saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let shown = shown.join(", ");
    Some(format!(
        "{count} of {clips} clips have no row in {table}, and thus neither caption nor columns: {shown}{more}"
    ))
}

/// Stops a run that has too many bad files.
pub(crate) fn check_bad_files(root: &Path, bad: &[BadFile], max: usize) -> Result<()> {
    const SHOWN: usize = 5;
    if bad.len() <= max {
        return Ok(());
    }
    Err(Error::TooManyBadFiles {
        folder: root.to_path_buf(),
        count: bad.len(),
        max,
        first: BadFile::lines(bad).into_iter().take(SHOWN).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    use crate::Media;

    #[test]
    fn clips_without_a_row_are_counted_and_the_first_are_named() {
        let entry = |k: usize| {
            let name = PathBuf::from(format!("{k}.gif"));
            Entry { media: Media::File(name.clone()), name, caption: None, row: None }
        };
        let entries: Vec<_> = (0..7).map(entry).collect();
        let table = Path::new("t.csv");
        let warning = without_rows(&entries, table).unwrap_or_default();
        let expected = "7 of 7 clips have no row in t.csv, and thus neither caption nor columns: \
                        \"0.gif\", \"1.gif\", \"2.gif\", \"3.gif\", \"4.gif\" and 2 more";
        assert_eq!(warning, expected);
        let two = without_rows(&entries[..2], table).unwrap_or_default();
        assert!(two.ends_with("columns: \"0.gif\", \"1.gif\""), "{two}");
        assert_eq!(without_rows(&[], table), None);
    }
}
