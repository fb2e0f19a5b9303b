//! One video that is an array.

use std::path::Path;

use super::{Format, Media, Probe, sniff};
use crate::array::{Array, ArrayOptions, Dtype, open};
use crate::{Clip, Error, FloatClip, Result};

/// The kind of numbers of an array, or of a clip that was prepared from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) dtype: Dtype,
    pub(crate) channels: usize,
}

impl Media {
    /// The kind of its numbers, for an array or a clip prepared from one; `None` for pictures.
    pub(crate) fn numbers(&self) -> Option<Numbers> {
        match self {
            Self::Array(array) => {
                Some(Numbers { dtype: array.dtype(), channels: array.channels() })
            }
            Self::Packed(packed) => packed.numbers(),
            Self::File(_) | Self::Frames { .. } => None,
        }
    }

    /// The array, if the video is one; for a file of arrays that was given on its own, its only
    /// one.
    pub(super) fn array(&self) -> Result<Option<Array>> {
        let path = match self {
            Self::Array(array) => return Ok(Some(array.clone())),
            Self::Frames { .. } | Self::Packed(_) => return Ok(None),
            Self::File(path) => path,
        };
        only(path, &ArrayOptions::default())
    }

    /// Like [`Media::at`], with a file of arrays read as `arrays` says.
    ///
    /// # Errors
    /// As [`Media::at`]; arrays that are damaged, or more than one.
    pub fn at_with(path: &Path, arrays: &ArrayOptions) -> Result<Self> {
        match Self::at(path)? {
            Self::File(path) => Ok(match only(&path, arrays)? {
                Some(array) => Self::Array(array),
                None => Self::File(path),
            }),
            other => Ok(other),
        }
    }

    /// Reads the frames at `wanted` (ascending; all, if `None`) as numbers: those of an array
    /// unchanged, the pixels of a picture as 0 to 255.
    ///
    /// # Errors
    /// As [`crate::decode`]; also when the video has fewer frames, or an array a different number
    /// of channels.
    pub fn decode_floats(
        &self,
        channels: usize,
        wanted: Option<&[usize]>,
        fps: f64,
    ) -> Result<FloatClip> {
        if let Self::Packed(packed) = self {
            return packed.floats(channels, wanted, fps);
        }
        let Some(array) = self.array()? else {
            return Ok(FloatClip::from(&self.collect(channels, wanted, fps)?));
        };
        let shape = shape(&array, channels, wanted)?;
        FloatClip::new(array.numbers(wanted)?, shape, fps)
    }
}

/// The only array of a file of arrays; `None` for other files.
fn only(path: &Path, options: &ArrayOptions) -> Result<Option<Array>> {
    let Format::Array(kind) = sniff(path)? else { return Ok(None) };
    let mut arrays = open(path, kind, options)?;
    match (arrays.pop(), arrays.len()) {
        (Some(array), 0) => Ok(Some(array)),
        (_, more) => {
            let expected = "one clip; only a folder given as data.source may hold files of several";
            Err(Error::damaged(path, expected, format!("{}", more + 1)))
        }
    }
}

/// The shape of the wanted frames of an array.
fn shape(array: &Array, channels: usize, wanted: Option<&[usize]>) -> Result<[usize; 4]> {
    let Probe { f, h, w, .. } = array.probe();
    if array.channels() != channels {
        let expected = format!("{channels} channels (data.channels)");
        let found = format!("an array of {}", array.channels());
        return Err(Error::damaged(array.path(), expected, found));
    }
    Ok([wanted.map_or(f, <[usize]>::len), h, w, channels])
}

/// An array of bytes as pixels.
pub(super) fn bytes(
    array: &Array,
    channels: usize,
    wanted: Option<&[usize]>,
    fps: f64,
) -> Result<Clip> {
    if array.dtype() != Dtype::U8 {
        return Err(Error::damaged(
            array.path(),
            "an array of u8, that is, pixels; for other number types set data.normalise",
            format!("one of {}", array.dtype()),
        ));
    }
    let shape = shape(array, channels, wanted)?;
    Clip::new(array.numbers(wanted)?, shape, fps)
}

pub(super) fn no_frame(path: &Path) -> Error {
    Error::damaged(path, "a picture", "an array")
}
