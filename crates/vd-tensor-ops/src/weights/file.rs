//! Reading a whole file as bytes, and replacing files atomically.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Error, Result};

/// The bytes of a file, mapped into memory; clones share the mapping.
#[derive(Clone)]
pub(crate) struct FileBytes(Arc<dyn Deref<Target = [u8]> + Send + Sync>);

impl AsRef<[u8]> for FileBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Maps a regular file; anything else (a directory, a pipe) is refused before it is opened.
pub(crate) fn map(path: &Path) -> Result<FileBytes> {
    let io_error = |source| Error::Io { path: path.to_owned(), source };
    let kind = fs::metadata(path).map_err(io_error)?;
    if !kind.is_file() {
        let what = if kind.is_dir() { "is a directory" } else { "is not a regular file" };
        return Err(Error::Format {
            path: path.to_owned(),
            what: format!("{what}; give the path of one file"),
        });
    }
    let file = File::open(path).map_err(io_error)?;
    let bytes = vd_torch::map_file(&file).map_err(io_error)?;
    Ok(FileBytes(Arc::new(bytes)))
}

/// Replaces the content of a file by `bytes`, atomically: see [`write_atomically_with`].
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomically_with(path, |file| {
        file.write_all(bytes).map_err(|source| Error::Io { path: path.to_owned(), source })
    })
}

/// Replaces a file by what `fill` writes, or leaves it unchanged.
///
/// The bytes go to a temporary file in the same directory, which is synced to the disk and then
/// renamed over `path`: whoever opens `path`, even after a crash or a power cut, finds the complete
/// old or the complete new content. The file's mode is that of any new file (the umask applies), a
/// symbolic link stays and its target is replaced, and anything but a regular file (`/dev/stdout`,
/// a pipe) is written to directly.
///
/// # Errors
/// [`Error::Io`] with the path, and any error of `fill`.
pub fn write_atomically_with<E: From<Error>>(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let io_error = |source| Error::Io { path: path.to_owned(), source };
    let target = real_target(path).map_err(io_error)?;
    if target.special {
        let mut file = File::options().write(true).open(path).map_err(io_error)?;
        return fill(&mut file);
    }
    let directory = match target.path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let temporary = new_file_builder().tempfile_in(directory).map_err(io_error)?;
    let mut writer = BufWriter::with_capacity(1 << 20, temporary.as_file());
    fill(&mut writer)?;
    writer.flush().map_err(io_error)?;
    drop(writer);
    temporary.as_file().sync_all().map_err(io_error)?;
    temporary.persist(&target.path).map_err(|e| io_error(e.error))?;
    // The rename survives a power cut only once the directory is on the disk.
    #[cfg(unix)]
    File::open(directory).and_then(|d| d.sync_all()).map_err(io_error)?;
    Ok(())
}

struct Target {
    path: PathBuf,
    /// Exists and is neither a file nor a directory: renaming over it would destroy it.
    special: bool,
}

fn real_target(path: &Path) -> io::Result<Target> {
    match fs::metadata(path) {
        Ok(kind) if kind.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(kind) if !kind.is_file() => Ok(Target { path: path.to_owned(), special: true }),
        Ok(_) => Ok(Target { path: fs::canonicalize(path)?, special: false }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Ok(Target { path: path.to_owned(), special: false })
        }
        Err(e) => Err(e),
    }
}

/// Temporary files are private by default; this one becomes the user's file.
fn new_file_builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".vd-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder
}
