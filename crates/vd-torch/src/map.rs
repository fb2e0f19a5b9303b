//! Memory-mapped files.

use std::fs::File;
use std::io;
use std::ops::Deref;

/// Maps a file into memory for reading.
///
/// The file must not shrink while it is mapped: reading past its new end would kill the process.
/// Weight files are replaced by rename and never written in place, which leaves a mapping intact.
///
/// # Errors
/// Any error of the operating system.
pub fn map_file(
    file: &File,
) -> io::Result<impl Deref<Target = [u8]> + Send + Sync + std::fmt::Debug + use<>> {
    // SAFETY: the mapping is read-only; that nobody truncates the file is the stated contract.
    unsafe { memmap2::Mmap::map(file) }
}
