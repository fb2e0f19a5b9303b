//! Arrays of numbers as videos: `.npy`, `.npz` and safetensors.

mod axes;
mod dtype;
mod half;
mod layout;
mod npy;
mod npz;
mod read;
mod tensors;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use axes::Axes;
pub use dtype::Dtype;
pub(crate) use half::{MAX_HALF, of_half, to_half};
pub(crate) use layout::MAX_CHANNELS;
pub(crate) use tensors::is_tensors;

use layout::Layout;

use crate::clip::UNSTATED_FPS;
use crate::decode::Probe;
use crate::{Error, Result};

/// How the arrays of a data set are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArrayOptions {
    /// The meaning of each axis; by default 3 axes are `fhw` and 4 are `fhwc`.
    pub axes: Option<Axes>,
    /// The array to read from an `.npz` or safetensors file; by default all of them.
    pub member: Option<String>,
}

/// One clip of an array on disk, of which only the header has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    file: Arc<InFile>,
    /// The index of the clip in its array.
    clip: u64,
}

/// An array in a file.
#[derive(Debug, PartialEq, Eq)]
struct InFile {
    path: PathBuf,
    member: Option<String>,
    dtype: Dtype,
    big: bool,
    place: Place,
    layout: Layout,
}

/// Where the numbers of an array are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Uncompressed, from this byte of the file on.
    Plain(u64),
    /// Compressed in a zip archive: its entry, and the size of the header before the numbers.
    Packed { entry: usize, header: u64 },
}

/// An array as described by a header.
struct Described {
    member: Option<String>,
    dtype: Dtype,
    big: bool,
    fortran: bool,
    shape: Vec<u64>,
    place: Place,
    /// The number of bytes available for its numbers.
    bytes: u64,
}

/// The kinds of files that hold arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Npy,
    Npz,
    Tensors,
}

/// All clips of a file of arrays, in the natural order of their members' names.
///
/// # Errors
/// A file that is damaged or truncated, or whose arrays are not videos.
pub(crate) fn open(path: &Path, kind: Kind, options: &ArrayOptions) -> Result<Vec<Array>> {
    let mut found = match kind {
        Kind::Npy => vec![plain(path)?],
        Kind::Npz => npz::list(path, options.member.as_deref())?,
        Kind::Tensors => tensors::list(path, options.member.as_deref())?,
    };
    found.sort_by(|a, b| {
        let [a, b] = [a, b].map(|of| Path::new(of.member.as_deref().unwrap_or_default()));
        crate::folder::natural_order(a, b)
    });
    if found.is_empty() {
        return Err(Error::damaged(path, "at least one array", "none"));
    }
    let several = found.len() > 1;
    let mut arrays = Vec::new();
    for described in found {
        let file = Arc::new(place(path, described, options.axes.as_ref(), several)?);
        let clips = 0..file.layout.clips;
        arrays.extend(clips.map(|clip| Array { file: Arc::clone(&file), clip }));
    }
    Ok(arrays)
}

/// The one array of a `.npy` file.
fn plain(path: &Path) -> Result<Described> {
    let file = File::open(path).map_err(|e| Error::read(path, e))?;
    let length = file.metadata().map_err(|e| Error::read(path, e))?.len();
    let header = npy::read(BufReader::new(file));
    let header = header.map_err(|(expected, found)| Error::damaged(path, expected, found))?;
    let place = Place::Plain(header.len);
    Ok(Described::new(None, header, place, length))
}

impl Described {
    /// An array with a `.npy` header; `length` is the size in bytes with the header.
    fn new(member: Option<String>, header: npy::Header, place: Place, length: u64) -> Self {
        let npy::Header { dtype, big, fortran, shape, len } = header;
        Self { member, dtype, big, fortran, shape, place, bytes: length.saturating_sub(len) }
    }
}

/// Checks that no numbers of an array are missing from its file, and finds its axes.
fn place(path: &Path, described: Described, axes: Option<&Axes>, several: bool) -> Result<InFile> {
    let Described { member, dtype, big, fortran, shape, place, bytes } = described;
    let name = member.as_ref().map_or(String::new(), |name| format!("array `{name}`: "));
    let claimed = shape.iter().try_fold(dtype.bytes() as u64, |n, axis| n.checked_mul(*axis));
    if claimed != Some(bytes) {
        let claimed = claimed.map_or("too many to count".to_owned(), |n| n.to_string());
        return Err(Error::damaged(
            path,
            format!("{name}{claimed} bytes of {dtype} for its shape {shape:?}"),
            format!("{bytes}"),
        ));
    }
    let layout = Layout::new(&shape, axes, fortran).map_err(|(expected, found)| {
        let which = match several {
            true => "; data.member selects one of several arrays",
            false => "",
        };
        Error::damaged(path, format!("{name}{expected}{which}"), found)
    })?;
    Ok(InFile { path: path.to_path_buf(), member, dtype, big, place, layout })
}

impl Array {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The one file that contains it.
    pub(crate) fn files(&self) -> &[PathBuf] {
        std::slice::from_ref(&self.file.path)
    }

    /// Its name in the file, if it has one.
    pub fn member(&self) -> Option<&str> {
        self.file.member.as_deref()
    }

    /// The index of the clip in its array, from 0.
    pub fn clip(&self) -> u64 {
        self.clip
    }

    /// The dtype of its numbers.
    pub fn dtype(&self) -> Dtype {
        self.file.dtype
    }

    /// The number of its channels.
    pub fn channels(&self) -> usize {
        self.file.layout.extent[3]
    }

    /// Its shape; the rate is the default, since arrays state none.
    pub fn probe(&self) -> Probe {
        let [f, h, w, _] = self.file.layout.extent;
        Probe { f, h, w, fps: UNSTATED_FPS }
    }

    /// The size of its numbers in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let numbers = self.file.layout.extent.iter().map(|n| *n as u64).product::<u64>();
        numbers * self.file.dtype.bytes() as u64
    }
}
