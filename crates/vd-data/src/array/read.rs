//! Reads the numbers of some frames of an array, in the order f h w c.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use zip::ZipReadOptions;

use super::{Array, Place, npz};
use crate::array::dtype::Dtype;
use crate::clip::MAX_CLIP_BYTES;
use crate::{Error, Result};

/// The maximum number of bytes read at once. Gaps between wanted numbers are read too if the whole
/// range fits into this, else skipped.
const CHUNK: u64 = 1 << 20;

/// The type in which a number is kept in memory.
pub(crate) trait Number: Copy + Default {
    /// Decodes bytes and appends their numbers.
    fn decode(dtype: Dtype, bytes: &[u8], big: bool, out: &mut Vec<Self>);
}

impl Number for f32 {
    fn decode(dtype: Dtype, bytes: &[u8], big: bool, out: &mut Vec<Self>) {
        dtype.decode(bytes, big, out);
    }
}

/// Only for arrays of bytes.
impl Number for u8 {
    fn decode(_: Dtype, bytes: &[u8], _: bool, out: &mut Vec<Self>) {
        out.extend_from_slice(bytes);
    }
}

/// One axis of a clip, slowest in the file first.
struct Axis {
    /// The stride in the file, in numbers.
    stride: u64,
    /// The stride in the result.
    out: usize,
    /// The wanted indices, ascending.
    places: Vec<u64>,
}

impl Axis {
    fn first(&self) -> u64 {
        self.places.first().map_or(0, |first| first * self.stride)
    }

    fn width(&self) -> u64 {
        self.places.last().map_or(0, |last| last * self.stride) - self.first()
    }
}

/// Reads bytes of an array, at positions that never decrease.
trait Bytes {
    fn read_at(&mut self, at: u64, into: &mut [u8]) -> io::Result<()>;
}

struct Plain {
    file: File,
    start: u64,
}

impl Bytes for Plain {
    fn read_at(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.start + at))?;
        self.file.read_exact(into)
    }
}

/// Decompresses while reading; unwanted bytes are decompressed and discarded.
struct Packed<R> {
    reader: R,
    at: u64,
}

impl<R: Read> Bytes for Packed<R> {
    fn read_at(&mut self, at: u64, into: &mut [u8]) -> io::Result<()> {
        let skip = at.checked_sub(self.at).ok_or(io::ErrorKind::InvalidInput)?;
        if io::copy(&mut self.reader.by_ref().take(skip), &mut io::sink())? < skip {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.reader.read_exact(into)?;
        self.at = at + into.len() as u64;
        Ok(())
    }
}

impl Array {
    /// The numbers of the wanted frames (ascending; all, if `None`).
    ///
    /// # Errors
    /// A file that cannot be read or has changed; more numbers than a clip may have; fewer frames
    /// than asked for.
    pub(crate) fn numbers<T: Number>(&self, wanted: Option<&[usize]>) -> Result<Vec<T>> {
        let [f, h, w, c] = self.file.layout.extent;
        let frames = wanted.map_or(f, <[usize]>::len);
        if let Some(beyond) = wanted.and_then(|list| list.iter().find(|frame| **frame >= f)) {
            let expected = format!("a frame {beyond}");
            return Err(Error::damaged(self.path(), expected, format!("{f} frames")));
        }
        let numbers = [h, w, c].into_iter().try_fold(frames, usize::checked_mul);
        let most = MAX_CLIP_BYTES / size_of::<T>();
        let Some(numbers) = numbers.filter(|n| *n <= most) else {
            return Err(Error::TooLarge {
                path: self.path().to_path_buf(),
                found: format!("{frames} frames of {h} x {w} with {c} channels"),
                limit: format!("{MAX_CLIP_BYTES} bytes per clip"),
            });
        };
        let axes = self.axes(wanted);
        self.with_bytes(&mut |bytes| {
            let mut reader = Reader {
                array: self,
                axes: &axes,
                bytes,
                out: Vec::new(),
                chunk: Vec::new(),
                values: Vec::new(),
            };
            reader.out.resize(numbers, T::default());
            reader.block(0, self.clip * self.file.layout.clip_stride, 0)?;
            Ok(reader.out)
        })
    }

    fn axes(&self, wanted: Option<&[usize]>) -> Vec<Axis> {
        let layout = &self.file.layout;
        let [f, h, w, c] = layout.extent;
        let frames = match wanted {
            Some(list) => list.iter().map(|frame| *frame as u64).collect(),
            None => (0..f as u64).collect(),
        };
        let all = |n: usize| (0..n as u64).collect();
        let places = [frames, all(h), all(w), all(c)];
        let outs = [h * w * c, w * c, c, 1];
        let axes = places.into_iter().zip(layout.stride).zip(outs);
        let mut axes: Vec<Axis> =
            axes.map(|((places, stride), out)| Axis { stride, out, places }).collect();
        axes.sort_by_key(|axis| std::cmp::Reverse(axis.stride));
        axes
    }

    /// Opens the file or archive entry that holds the bytes of the array.
    fn with_bytes<T>(&self, run: &mut dyn FnMut(&mut dyn Bytes) -> Result<T>) -> Result<T> {
        let path = self.path();
        match self.file.place {
            Place::Plain(start) => {
                let file = File::open(path).map_err(|e| Error::read(path, e))?;
                run(&mut Plain { file, start })
            }
            Place::Packed { entry, header } => {
                let mut zip = npz::archive(path)?;
                let options = ZipReadOptions::new().ignore_crc32(true);
                let reader = zip.by_index_with_options(entry, options);
                let reader = reader.map_err(|e| npz::damaged(path, "an array", &e))?;
                let mut bytes = Packed { reader, at: 0 };
                let mut unread = vec![0; header as usize];
                bytes.read_at(0, &mut unread).map_err(|e| Error::read(path, e))?;
                bytes.at = 0;
                run(&mut bytes)
            }
        }
    }
}

struct Reader<'a, T> {
    array: &'a Array,
    axes: &'a [Axis],
    bytes: &'a mut dyn Bytes,
    out: Vec<T>,
    /// One chunk as stored in the file, and its numbers.
    chunk: Vec<u8>,
    values: Vec<T>,
}

impl<T: Number> Reader<'_, T> {
    /// Reads what the axes from `level` on span, in one read if it is small.
    fn block(&mut self, level: usize, at: u64, out: usize) -> Result<()> {
        let (first, width) =
            self.axes[level..].iter().fold((0, 0), |(a, b), x| (a + x.first(), b + x.width()));
        let size = self.array.file.dtype.bytes() as u64;
        if (width + 1) * size <= CHUNK || level == self.axes.len() {
            self.read(at + first, width + 1)?;
            self.scatter(level, 0, out);
            return Ok(());
        }
        let axes = self.axes;
        let axis = &axes[level];
        for (k, place) in axis.places.iter().enumerate() {
            self.block(level + 1, at + place * axis.stride, out + k * axis.out)?;
        }
        Ok(())
    }

    fn read(&mut self, at: u64, numbers: u64) -> Result<()> {
        let array = self.array;
        let super::InFile { path, dtype, big, .. } = &*array.file;
        let size = dtype.bytes();
        self.chunk.resize(numbers as usize * size, 0);
        self.bytes.read_at(at * size as u64, &mut self.chunk).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput => {
                Error::damaged(path, "as many numbers as its header states", e.to_string())
            }
            _ => Error::read(path, e),
        })?;
        self.values.clear();
        T::decode(*dtype, &self.chunk, *big, &mut self.values);
        Ok(())
    }

    /// Copies the numbers of a chunk, which starts with the first wanted one, to their positions in
    /// the result.
    fn scatter(&mut self, level: usize, at: usize, out: usize) {
        let Some(axis) = self.axes.get(level) else {
            self.out[out] = self.values[at];
            return;
        };
        let first = axis.places.first().copied().unwrap_or(0);
        if level + 1 == self.axes.len() {
            if (axis.stride, axis.out) == (1, 1) && axis.width() + 1 == axis.places.len() as u64 {
                let n = axis.places.len();
                self.out[out..out + n].copy_from_slice(&self.values[at..at + n]);
                return;
            }
            for (k, place) in axis.places.iter().enumerate() {
                self.out[out + k * axis.out] =
                    self.values[at + ((place - first) * axis.stride) as usize];
            }
            return;
        }
        let axes = self.axes;
        for (k, place) in axes[level].places.iter().enumerate() {
            let to = at + ((place - first) * axes[level].stride) as usize;
            self.scatter(level + 1, to, out + k * axes[level].out);
        }
    }
}
