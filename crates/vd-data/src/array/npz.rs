//! The arrays of an `.npz` file, a zip archive of `.npy` files.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive, ZipReadOptions};

use super::{Described, Place, npy};
use crate::{Error, Result};

/// Opens the archive.
pub(super) fn archive(path: &Path) -> Result<ZipArchive<BufReader<File>>> {
    let file = File::open(path).map_err(|e| Error::read(path, e))?;
    ZipArchive::new(BufReader::new(file)).map_err(|e| damaged(path, "the directory", &e))
}

/// Lists all arrays, or the one called `member`, from their headers.
pub(super) fn list(path: &Path, member: Option<&str>) -> Result<Vec<Described>> {
    let mut zip = archive(path)?;
    let mut names = Vec::new();
    for name in zip.file_names() {
        names.push(name.map_err(|e| damaged(path, "a name", &e))?.into_owned());
    }
    let arrays: Vec<(usize, &str)> = names
        .iter()
        .enumerate()
        .filter_map(|(k, name)| Some((k, name.strip_suffix(".npy")?)))
        .collect();
    if arrays.is_empty() {
        let found = format!("a zip archive with {} other files", names.len());
        return Err(Error::damaged(path, "arrays, NAME.npy in a zip archive", found));
    }
    let wanted = arrays.iter().filter(|(_, name)| member.is_none_or(|member| member == *name));
    let described = wanted.map(|(entry, name)| describe(path, &mut zip, *entry, name));
    let described = described.collect::<Result<Vec<_>>>()?;
    if let (Some(member), true) = (member, described.is_empty()) {
        let names = super::tensors::listed(arrays.iter().map(|(_, name)| *name));
        return Err(Error::damaged(path, format!("the array `{member}` (data.member)"), names));
    }
    Ok(described)
}

fn describe(
    path: &Path,
    zip: &mut ZipArchive<BufReader<File>>,
    entry: usize,
    name: &str,
) -> Result<Described> {
    let bad = |e: ZipError| damaged(path, &format!("the array `{name}`"), &e);
    // the checksum covers all bytes, but only some are read
    let options = ZipReadOptions::new().ignore_crc32(true);
    let mut file = zip.by_index_with_options(entry, options).map_err(bad)?;
    let (size, packed, method) = (file.size(), file.compressed_size(), file.compression());
    let start = file.data_start();
    let header = npy::read(&mut file).map_err(|(expected, found)| {
        Error::damaged(path, format!("array `{name}`: {expected}"), found)
    })?;
    drop(file);
    let place = match (method, start) {
        (CompressionMethod::Stored, Some(start)) => {
            let length = path.metadata().map_err(|e| Error::read(path, e))?.len();
            if size != packed || start.checked_add(size).is_none_or(|end| end > length) {
                let expected = format!("array `{name}`: {size} bytes from byte {start}");
                return Err(Error::damaged(path, expected, format!("a file of {length}")));
            }
            Place::Plain(start + header.len)
        }
        (CompressionMethod::Deflated, _) => Place::Packed { entry, header: header.len },
        (other, _) => {
            let expected = format!("array `{name}`: stored or deflated, as NumPy does");
            return Err(Error::damaged(path, expected, format!("{other}")));
        }
    };
    Ok(Described::new(Some(name.to_owned()), header, place, size))
}

/// Turns an error of `zip` into one about the file.
pub(super) fn damaged(path: &Path, what: &str, error: &ZipError) -> Error {
    Error::damaged(path, format!("{what} of an intact zip archive"), error.to_string())
}
