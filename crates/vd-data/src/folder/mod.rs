//! A folder of videos with captions.

mod bad;
mod caption;
mod complaints;
mod contains;
mod natural;
mod walk;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use bad::BadFile;
pub(crate) use complaints::check_bad_files;
use complaints::without_rows;
pub use contains::folder_contains;
pub(crate) use natural::natural_order;
use walk::Stills;

use crate::Result;
use crate::array::{ArrayOptions, open};
use crate::captions::{Captions, Row, Table, of_folder};
use crate::decode::{Media, array_kind};

/// One video of a folder.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// Its location.
    pub media: Media,
    /// Its path relative to the folder.
    pub name: PathBuf,
    /// Its caption, trimmed; `None` if it has none, or an empty one.
    pub caption: Option<String>,
    /// Its row in a table; `None` without a table, or without a row in it.
    pub row: Option<Arc<Row>>,
}

impl Entry {
    /// The name of the folder that contains it, below the root of the data set: its class, if
    /// folders name classes.
    pub fn folder(&self) -> Option<&str> {
        self.name.parent()?.file_name()?.to_str()
    }

    /// Its name in error messages, relative to `root`: many prepared clips share one file.
    pub(crate) fn place(&self, root: &Path) -> PathBuf {
        match &self.media {
            Media::Packed(_) => root.join(&self.name),
            media => media.path().to_path_buf(),
        }
    }
}

/// All videos below a folder, in natural order of their paths.
///
/// - A `.gif`, `.apng`, `.mp4`, `.m4v`, `.mov`, `.webm`, `.mkv` or `.avi` and an animated `.png` or
///   `.webp` is a clip; its caption is in `NAME.txt` beside it. The name only decides whether a
///   file is looked at; its first bytes decide its type.
/// - The other `.png`, `.jpg`, `.jpeg` and `.webp` files directly in one folder form one clip
///   together, a frame each, in natural order of their names; its caption is in `caption.txt` in
///   that folder, or else in `FOLDER.txt` beside the folder.
/// - A `.npy`, `.npz` or `.safetensors` file holds one clip per array, or, for arrays with an axis
///   `n`, one per index of that axis ([`ArrayOptions`]); all of them have the file's caption.
/// - Captions may come from elsewhere: see [`Captions`].
/// - Names that begin with a dot are ignored, links are followed, and a folder that is reached
///   twice counts once.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    entries: Vec<Entry>,
    bad: Vec<BadFile>,
    other: BTreeMap<String, usize>,
}

impl Folder {
    /// Lists the folder and checks the first bytes of every video. Files that fail are logged,
    /// counted and left out.
    ///
    /// # Errors
    /// When `root` is not a folder, when more than `max_bad_files` cannot be read, or when no
    /// readable video is left.
    pub fn scan(root: &Path, max_bad_files: usize) -> Result<Self> {
        Self::scan_with(root, &Captions::Beside, max_bad_files)
    }

    /// Like [`Folder::scan`], with captions from the source `captions`. Clips without a row in a
    /// table are counted in the log, and the first five are named.
    ///
    /// # Errors
    /// As [`Folder::scan`]; a table that is not valid, or that has rows for files that do not
    /// exist.
    pub fn scan_with(root: &Path, captions: &Captions, max_bad_files: usize) -> Result<Self> {
        Self::scan_arrays(root, captions, &ArrayOptions::default(), max_bad_files)
    }

    /// Like [`Folder::scan_with`], with arrays read as `arrays` says.
    ///
    /// # Errors
    /// As [`Folder::scan_with`].
    pub fn scan_arrays(
        root: &Path,
        captions: &Captions,
        arrays: &ArrayOptions,
        max_bad_files: usize,
    ) -> Result<Self> {
        Self::list_arrays(root, captions, arrays)?.judged(captions, max_bad_files)
    }

    /// Like [`Folder::scan_with`], for images: every still image is an entry of its own, with its
    /// caption beside it in `NAME.txt`, or in the table's row with its path, and no folder is a
    /// clip. Each frame of an animation is an image.
    ///
    /// # Errors
    /// As [`Folder::scan_with`].
    pub fn scan_images(root: &Path, captions: &Captions, max_bad_files: usize) -> Result<Self> {
        Self::list_images(root, captions)?.judged(captions, max_bad_files)
    }

    /// The clips that were prepared into the folder of shards `root`, under the names of their
    /// sources and in their order; otherwise like [`Folder::scan`].
    ///
    /// # Errors
    /// When the index or a shard is not valid, or as [`Folder::scan_with`].
    pub fn scan_shards(root: &Path, max_bad_files: usize) -> Result<Self> {
        let (folder, captions) = crate::shards::list(root)?;
        folder.judged(&captions, max_bad_files)
    }

    /// Like [`Folder::scan_shards`], but without log messages and without a limit on bad files.
    ///
    /// # Errors
    /// When the index or a shard is not valid.
    pub fn list_shards(root: &Path) -> Result<Self> {
        crate::shards::list(root).map(|(folder, _)| folder)
    }

    /// Makes a folder from entries found in another way.
    pub(crate) fn of(root: &Path, entries: Vec<Entry>, bad: Vec<BadFile>) -> Self {
        Self { root: root.to_path_buf(), entries, bad, other: BTreeMap::new() }
    }

    /// Refuses a folder that no run should start with, or warns about it.
    fn judged(self, captions: &Captions, max_bad_files: usize) -> Result<Self> {
        check_bad_files(&self.root, &self.bad, max_bad_files)?;
        for line in BadFile::lines(&self.bad) {
            tracing::warn!("left out: {line}");
        }
        if self.entries.is_empty() {
            return Err(self.no_clips());
        }
        if let Captions::Table(table) = captions
            && let Some(warning) = without_rows(&self.entries, table)
        {
            tracing::warn!("{warning}");
        }
        Ok(self)
    }

    /// Like [`Folder::scan`], but without log messages and without a limit on bad files, which are
    /// only reported.
    ///
    /// # Errors
    /// When `root` is not a folder or cannot be listed.
    pub fn list(root: &Path) -> Result<Self> {
        Self::list_with(root, &Captions::Beside)
    }

    /// Like [`Folder::list`], with captions from the source `captions`.
    ///
    /// # Errors
    /// As [`Folder::list`]; a table that is not valid, or that has rows for files that do not
    /// exist.
    pub fn list_with(root: &Path, captions: &Captions) -> Result<Self> {
        Self::list_arrays(root, captions, &ArrayOptions::default())
    }

    /// Like [`Folder::list_with`], with arrays read as `arrays` says.
    ///
    /// # Errors
    /// As [`Folder::list_with`].
    pub fn list_arrays(root: &Path, captions: &Captions, arrays: &ArrayOptions) -> Result<Self> {
        Self::list_as(root, captions, Stills::Frames, arrays)
    }

    /// Like [`Folder::list_with`], for images as in [`Folder::scan_images`].
    ///
    /// # Errors
    /// As [`Folder::list_with`].
    pub fn list_images(root: &Path, captions: &Captions) -> Result<Self> {
        Self::list_as(root, captions, Stills::Images, &ArrayOptions::default())
    }

    fn list_as(
        root: &Path,
        captions: &Captions,
        stills: Stills,
        arrays: &ArrayOptions,
    ) -> Result<Self> {
        let table = captions.table_below(root);
        let walk::Found { media, bad, other } = walk::walk(root, table.as_deref(), stills)?;
        let table = table.map(|path| Table::read(&path)).transpose()?;
        let mut folder =
            Self { root: root.to_path_buf(), entries: Vec::with_capacity(media.len()), bad, other };
        for media in media.into_iter().flat_map(|media| clips(media, arrays)) {
            let (media, opened) = media;
            let name = below(root, media.path());
            let mut entry = Entry { media, name, caption: None, row: None };
            let sound = opened.and_then(|()| entry.media.check_header());
            match sound.and_then(|()| describe(&mut entry, root, captions, table.as_ref())) {
                Ok(()) => folder.entries.push(entry),
                Err(error) => folder.bad.push(BadFile {
                    path: entry.media.path().to_path_buf(),
                    reason: error.to_string(),
                }),
            }
        }
        if let Some(table) = table {
            // a file that cannot be read still exists
            let bad = folder.bad.iter().map(|bad| below(root, &bad.path)).collect::<Vec<_>>();
            let names = folder.entries.iter().map(|entry| entry.name.as_path());
            table.check_files(names.chain(bad.iter().map(PathBuf::as_path)))?;
        }
        folder.bad.sort_by(|a, b| natural_order(&a.path, &b.path));
        Ok(folder)
    }

    /// The folder's path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The videos, in natural order of their paths.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The files that could not be used.
    pub fn bad_files(&self) -> &[BadFile] {
        &self.bad
    }

    /// The number of files of each kind that is not read here, by file extension.
    pub fn other_files(&self) -> &BTreeMap<String, usize> {
        &self.other
    }
}

/// The clips of a file of arrays; any other file is one entry. A file that cannot be opened stays
/// one entry.
fn clips(media: Media, options: &ArrayOptions) -> Vec<(Media, Result<()>)> {
    let kind = match &media {
        Media::File(path) => array_kind(path),
        _ => None,
    };
    match kind.map(|kind| open(media.path(), kind, options)) {
        None => vec![(media, Ok(()))],
        Some(Ok(arrays)) => arrays.into_iter().map(|array| (Media::Array(array), Ok(()))).collect(),
        Some(Err(error)) => vec![(media, Err(error))],
    }
}

/// Gives an entry its caption and its other metadata.
fn describe(
    entry: &mut Entry,
    root: &Path,
    captions: &Captions,
    table: Option<&Table>,
) -> Result<()> {
    match captions {
        Captions::Beside => entry.caption = caption::beside(root, &entry.media)?,
        Captions::Folders => entry.caption = entry.folder().and_then(of_folder),
        Captions::Table(_) => {
            if let Some(found) = table.and_then(|table| table.find(&entry.name)) {
                entry.caption.clone_from(&found.caption);
                entry.row = Some(Arc::clone(&found.row));
            }
        }
    }
    Ok(())
}

/// The path relative to `root`; `root`'s own name if it is the video itself.
fn below(root: &Path, path: &Path) -> PathBuf {
    match path.strip_prefix(root) {
        Ok(name) if name != Path::new("") => name.to_path_buf(),
        _ => PathBuf::from(path.file_name().unwrap_or(path.as_os_str())),
    }
}
