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
    /// Where it lies.
    pub media: Media,
    /// Its path below the folder.
    pub name: PathBuf,
    /// What it shows, trimmed; `None` where it has no caption, or an empty one.
    pub caption: Option<String>,
    /// What a table says of it; `None` without a table, or without a row in it.
    pub row: Option<Arc<Row>>,
}

impl Entry {
    /// The name of the folder that it lies in, below that of the data set: its class, where folders name classes.
    pub fn folder(&self) -> Option<&str> {
        self.name.parent()?.file_name()?.to_str()
    }

    /// What it is called below `root` where it cannot be read: of prepared clips many share one file.
    pub(crate) fn place(&self, root: &Path) -> PathBuf {
        match &self.media {
            Media::Packed(_) => root.join(&self.name),
            media => media.path().to_path_buf(),
        }
    }
}

/// All videos below a folder, in natural order of their paths.
///
/// - A `.gif`, `.apng`, `.mp4`, `.m4v`, `.mov`, `.webm`, `.mkv` or `.avi` and an animated `.png` or `.webp` is a clip; its
///   caption stands beside it in `NAME.txt`. What is in a file its first bytes say: the name only says that it is looked at.
/// - The other `.png`, `.jpg`, `.jpeg` and `.webp` files directly in one folder are together one clip, a frame each, in natural order
///   of their names; its caption stands in `caption.txt` in that folder, or else beside the folder in `FOLDER.txt`.
/// - A `.npy`, `.npz` or `.safetensors` file holds one clip or several, one for each of its arrays, and where these have an
///   axis `n` one for each place along it ([`ArrayOptions`]); all of them have the file's caption.
/// - Captions may come from elsewhere: see [`Captions`].
/// - Names that begin with a dot are passed over, links are followed, and a folder that is reached twice counts once.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    entries: Vec<Entry>,
    bad: Vec<BadFile>,
    other: BTreeMap<String, usize>,
}

impl Folder {
    /// Lists the folder and checks the first bytes of every video; those that fail are named in the log, counted and left out.
    ///
    /// # Errors
    /// When `root` is not a folder, when more than `max_bad_files` cannot be read, or when no readable video is left.
    pub fn scan(root: &Path, max_bad_files: usize) -> Result<Self> {
        Self::scan_with(root, &Captions::Beside, max_bad_files)
    }

    /// As [`Folder::scan`], with captions from where `captions` says; clips that a table does not name are counted in the
    /// log, and the first five are named.
    ///
    /// # Errors
    /// As [`Folder::scan`]; a table that is not sound, or that has rows for files that are not there.
    pub fn scan_with(root: &Path, captions: &Captions, max_bad_files: usize) -> Result<Self> {
        Self::scan_arrays(root, captions, &ArrayOptions::default(), max_bad_files)
    }

    /// As [`Folder::scan_with`], with arrays taken as `arrays` says.
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

    /// As [`Folder::scan_with`], of images: every still image is one by itself, with its caption beside it in `NAME.txt`, or
    /// in a row of the table with its own path, and no folder is a clip. Of an animation each frame is an image.
    ///
    /// # Errors
    /// As [`Folder::scan_with`].
    pub fn scan_images(root: &Path, captions: &Captions, max_bad_files: usize) -> Result<Self> {
        Self::list_images(root, captions)?.judged(captions, max_bad_files)
    }

    /// The clips that were prepared into the folder of shards `root`, under the names of their sources and in their order;
    /// the rest is as in [`Folder::scan`].
    ///
    /// # Errors
    /// When the index or a shard is not sound, or as [`Folder::scan_with`].
    pub fn scan_shards(root: &Path, max_bad_files: usize) -> Result<Self> {
        let (folder, captions) = crate::shards::list(root)?;
        folder.judged(&captions, max_bad_files)
    }

    /// As [`Folder::scan_shards`], but silent and with no bound on the bad files.
    ///
    /// # Errors
    /// When the index or a shard is not sound.
    pub fn list_shards(root: &Path) -> Result<Self> {
        crate::shards::list(root).map(|(folder, _)| folder)
    }

    /// A folder of what was found otherwise.
    pub(crate) fn of(root: &Path, entries: Vec<Entry>, bad: Vec<BadFile>) -> Self {
        Self { root: root.to_path_buf(), entries, bad, other: BTreeMap::new() }
    }

    /// Refuses or warns of what a run should not begin with.
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

    /// As [`Folder::scan`], but silent and with no bound on the bad files: they are reported, not judged.
    ///
    /// # Errors
    /// When `root` is not a folder or cannot be listed.
    pub fn list(root: &Path) -> Result<Self> {
        Self::list_with(root, &Captions::Beside)
    }

    /// As [`Folder::list`], with captions from where `captions` says.
    ///
    /// # Errors
    /// As [`Folder::list`]; a table that is not sound, or that has rows for files that are not there.
    pub fn list_with(root: &Path, captions: &Captions) -> Result<Self> {
        Self::list_arrays(root, captions, &ArrayOptions::default())
    }

    /// As [`Folder::list_with`], with arrays taken as `arrays` says.
    ///
    /// # Errors
    /// As [`Folder::list_with`].
    pub fn list_arrays(root: &Path, captions: &Captions, arrays: &ArrayOptions) -> Result<Self> {
        Self::list_as(root, captions, Stills::Frames, arrays)
    }

    /// As [`Folder::list_with`], of images as [`Folder::scan_images`] has them.
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
            // a file that cannot be read is there all the same
            let bad = folder.bad.iter().map(|bad| below(root, &bad.path)).collect::<Vec<_>>();
            let names = folder.entries.iter().map(|entry| entry.name.as_path());
            table.check_files(names.chain(bad.iter().map(PathBuf::as_path)))?;
        }
        folder.bad.sort_by(|a, b| natural_order(&a.path, &b.path));
        Ok(folder)
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The videos, in natural order of their paths.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What could not be used.
    pub fn bad_files(&self) -> &[BadFile] {
        &self.bad
    }

    /// How many files there are of each kind that is not read here, by the ending of their names.
    pub fn other_files(&self) -> &BTreeMap<String, usize> {
        &self.other
    }
}

/// The clips of a file of arrays; anything else is one by itself. What cannot be opened stays a file.
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

/// Gives an entry its caption and what else is known of it.
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

/// The path below `root`; `root`'s own name where it is the video itself.
fn below(root: &Path, path: &Path) -> PathBuf {
    match path.strip_prefix(root) {
        Ok(name) if name != Path::new("") => name.to_path_buf(),
        _ => PathBuf::from(path.file_name().unwrap_or(path.as_os_str())),
    }
}
