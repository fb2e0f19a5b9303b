//! The zip archive around a pickle: `NAME/data.pkl` and one file `NAME/data/KEY` for each storage.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::sync::OnceLock;

use zip::read::HasZipMetadata;
use zip::{CompressionMethod, ZipArchive, ZipReadOptions};

use super::Parse;
use super::value::Shown;
use crate::weights::FileBytes;

/// A pickle only describes tensors; the numbers are stored beside it. This size describes millions
/// of tensors.
const MAX_PICKLE: u64 = 64 << 20;
/// The first bytes written by torch.save in its format before version 1.6.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// An opened archive. Only the names of the storages have been read.
pub(super) struct Archive {
    zip: ZipArchive<Cursor<FileBytes>>,
    bytes: FileBytes,
    storages: BTreeMap<String, Entry>,
}

/// A storage's index in the archive, and its byte range in the file once its checksum has been
/// verified.
struct Entry {
    index: usize,
    checked: OnceLock<Parse<Range<usize>>>,
}

impl Archive {
    /// Opens an archive; also returns its pickle.
    pub(super) fn open(bytes: FileBytes) -> Parse<(Archive, Vec<u8>)> {
        let content = bytes.as_ref();
        if !content.starts_with(b"PK") {
            return Err(foreign(content));
        }
        let zip = ZipArchive::new(Cursor::new(bytes.clone())).map_err(|e| {
            format!("truncated or damaged: it begins like a torch.save file, but its directory cannot be read ({e})")
        })?;
        if zip.has_duplicate_names() {
            return Err("two files of the archive have the same name: damaged".to_owned());
        }
        let mut archive = Archive { zip, bytes, storages: BTreeMap::new() };
        let names = archive.names()?;
        let folder = folder(&names)?.to_owned();
        for (index, name) in names.iter().enumerate() {
            let Some(inner) = name.strip_prefix(&folder) else { continue };
            if inner == "constants.pkl" || inner.starts_with("code/") {
                return Err(
                    "a TorchScript program (torch.jit.save), expected a checkpoint; in Python: \
                            torch.save(torch.jit.load(path).state_dict(), new_path)"
                        .to_owned(),
                );
            }
            if let Some(key) = inner.strip_prefix("data/") {
                let entry = Entry { index, checked: OnceLock::new() };
                archive.storages.insert(key.to_owned(), entry);
            }
        }
        archive.check_byte_order(&names, &folder)?;
        let pickle = archive.small(&names, &format!("{folder}data.pkl"), MAX_PICKLE)?;
        let pickle = pickle.ok_or("no data.pkl in the archive")?;
        Ok((archive, pickle))
    }

    /// The length of the whole file.
    pub(super) fn len(&self) -> usize {
        self.bytes.as_ref().len()
    }

    /// The bytes of a storage; its checksum is verified the first time.
    pub(super) fn storage(&self, key: &str) -> Parse<&[u8]> {
        let entry = self.storages.get(key).ok_or_else(|| {
            format!("storage `{}` is not in the archive: damaged or made without data", Shown(key))
        })?;
        let range = entry.checked.get_or_init(|| {
            self.locate(entry.index).map_err(|e| format!("storage `{}`: {e}", Shown(key)))
        });
        let range = range.clone()?;
        self.bytes.as_ref().get(range).ok_or_else(|| "a storage beyond the file".to_owned())
    }

    fn names(&self) -> Parse<Vec<String>> {
        let names = self.zip.file_names().map(|name| match name {
            Ok(name) => Ok(name.into_owned()),
            Err(e) => Err(format!("a name in the archive cannot be read: {e}")),
        });
        names.collect()
    }

    fn check_byte_order(&self, names: &[String], folder: &str) -> Parse<()> {
        // Absent from older files, which use the byte order of their machine: nearly always
        // little-endian.
        let order = self.small(names, &format!("{folder}byteorder"), 64)?;
        match order.as_deref() {
            None | Some(b"little") => Ok(()),
            Some(b"big") => {
                Err("big-endian numbers, expected little-endian; load and save it with \
                                 torch on a little-endian machine"
                    .to_owned())
            }
            Some(_) => Err("its byte order is neither little nor big: damaged".to_owned()),
        }
    }

    /// The whole content of one file of the archive, `None` if it is missing.
    fn small(&self, names: &[String], name: &str, limit: u64) -> Parse<Option<Vec<u8>>> {
        let Some(index) = names.iter().position(|n| n == name) else { return Ok(None) };
        let described = |e: String| format!("`{}`: {e}", Shown(name));
        let range = self.locate(index).map_err(described)?;
        if range.len() as u64 > limit {
            return Err(described(format!("{} bytes, at most {limit} are read", range.len())));
        }
        let content = self.bytes.as_ref().get(range).unwrap_or_default();
        Ok(Some(content.to_vec()))
    }

    /// The byte range of a file of the archive. Reads it once, to verify its checksum.
    fn locate(&self, index: usize) -> Parse<Range<usize>> {
        // A clone shares the directory and the mapping, and has its own position.
        let mut zip = self.zip.clone();
        let entry = zip.by_index_data(index).map_err(|e| e.to_string())?;
        if entry.encrypted() {
            return Err("encrypted".to_owned());
        }
        if entry.compression() != CompressionMethod::Stored {
            return Err(format!(
                "compressed ({}), which torch.save never does; unzip it and zip it with `zip -0`",
                entry.compression()
            ));
        }
        let (size, packed) = (entry.size(), entry.compressed_size());
        // torch writes 0 if checksums were turned off to save time.
        let unchecked = entry.crc32() == 0;
        if size != packed {
            return Err(format!("{size} bytes stored as {packed}: damaged"));
        }
        let options = ZipReadOptions::new().ignore_crc32(unchecked);
        let mut file = zip.by_index_with_options(index, options).map_err(|e| e.to_string())?;
        let start = file.get_metadata().data_start.get().copied();
        let start = start.ok_or("its beginning is unknown")?;
        let end = start.checked_add(size).filter(|&end| end <= self.len() as u64);
        let end = end.ok_or("truncated: it reaches beyond the end of the file")?;
        if !unchecked {
            let read = io::copy(&mut file.by_ref(), &mut io::sink());
            read.map_err(|e| format!("damaged ({e})"))?;
        }
        let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        range.map(|(start, end)| start..end).ok_or_else(|| "too large".to_owned())
    }
}

/// The folder, with its slash, that contains the one pickle.
fn folder(names: &[String]) -> Parse<&str> {
    let mut folders = names.iter().filter_map(|name| {
        let folder = name.strip_suffix("data.pkl")?;
        let top = folder.is_empty() || folder.find('/') == Some(folder.len() - 1);
        top.then_some(folder)
    });
    match (folders.next(), folders.next()) {
        (Some(folder), None) => Ok(folder),
        (None, _) => {
            Err("a zip archive without data.pkl: not written by torch.save(object, path)"
                .to_owned())
        }
        _ => Err("a zip archive with more than one data.pkl".to_owned()),
    }
}

/// Describes a file that is not a zip archive.
fn foreign(content: &[u8]) -> String {
    let head = content.get(..64).unwrap_or(content);
    let resave = "load it with torch 1.6 or newer and save it with torch.save(object, path)";
    if content.is_empty() {
        "empty file".to_owned()
    } else if head.windows(LEGACY_MAGIC.len()).any(|w| w == LEGACY_MAGIC) {
        format!("the format of PyTorch before 1.6, which is not supported; {resave}")
    } else if content.get(257..262) == Some(b"ustar") {
        format!(
            "a tar archive, the format of PyTorch before 0.1.10 if a checkpoint at all; {resave}"
        )
    } else if content.get(8) == Some(&b'{') {
        "apparently a safetensors file, expected a file of torch.save; read it with `Weights::read`"
            .to_owned()
    } else {
        "not a file of torch.save: not a zip archive".to_owned()
    }
}
