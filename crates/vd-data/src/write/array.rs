//! Writes clips, and numbers in any unit, as arrays: NumPy and safetensors.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::TensorInfo;
use serde::Serialize;

use super::write_file;
use crate::array::Dtype;
use crate::{Clip, Error, FloatClip, Result};

/// A file format for one array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArrayFormat {
    /// NumPy's; it cannot store a rate.
    Npy,
    /// One tensor, `video`; for a clip, its `fps` and the meaning of its `axes` are in the
    /// metadata.
    Safetensors,
}

/// The description of an array without its numbers.
struct Header<'a> {
    dtype: Dtype,
    shape: &'a [usize],
    /// The rate of a clip, whose axes are f h w c.
    fps: Option<f64>,
}

/// Writes numbers, the last axis fastest; for integer dtypes they are rounded to nearest and
/// clamped to the range.
///
/// # Errors
/// A shape that does not match the number of values; bf16 for `.npy`, which has no such dtype; a
/// file that cannot be written.
pub fn write_array(
    path: &Path,
    format: ArrayFormat,
    dtype: Dtype,
    shape: &[usize],
    values: &[f32],
) -> Result<()> {
    if shape.iter().try_fold(1usize, |n, axis| n.checked_mul(*axis)) != Some(values.len()) {
        let got = format!("{} values", values.len());
        return Err(Error::clip(format!("as many values as the shape {shape:?} needs"), got));
    }
    write(path, format, &Header { dtype, shape, fps: None }, &dtype.encode(values)?)
}

/// Writes a clip of numbers, f h w c, and its rate if the format can store it; for integer dtypes
/// the numbers are rounded to nearest and clamped to the range.
///
/// # Errors
/// As [`write_array`].
pub fn write_floats(
    path: &Path,
    format: ArrayFormat,
    dtype: Dtype,
    clip: &FloatClip,
) -> Result<()> {
    let header = Header { dtype, shape: &clip.shape(), fps: Some(clip.fps) };
    write(path, format, &header, &dtype.encode(&clip.values)?)
}

/// Writes a clip of bytes: u8, f h w c.
pub(super) fn write_clip(path: &Path, format: ArrayFormat, clip: &Clip) -> Result<()> {
    clip.check()?;
    let shape = &[clip.f, clip.h, clip.w, clip.c];
    let header = Header { dtype: Dtype::U8, shape, fps: Some(clip.fps) };
    write(path, format, &header, &clip.frames)
}

fn write(path: &Path, format: ArrayFormat, header: &Header<'_>, values: &[u8]) -> Result<()> {
    let mut bytes = match format {
        ArrayFormat::Npy => npy(header)?,
        ArrayFormat::Safetensors => tensors(path, header, values.len())?,
    };
    bytes.extend_from_slice(values);
    write_file(path, &bytes)
}

/// A header of version 1, padded so that the numbers begin at a multiple of 64 bytes, as the format
/// requires.
fn npy(header: &Header<'_>) -> Result<Vec<u8>> {
    const START: usize = 10;
    let dtype = header.dtype;
    if dtype.npy().is_empty() {
        return Err(Error::clip(
            "a number type that .npy supports, such as f16 or f32",
            dtype.name(),
        ));
    }
    let order = if dtype.bytes() == 1 { '|' } else { '<' };
    let axes: Vec<_> = header.shape.iter().map(usize::to_string).collect();
    // as Python writes a tuple: a single element is followed by a comma
    let comma = if axes.len() == 1 { "," } else { "" };
    let mut text = format!(
        "{{'descr': '{order}{}', 'fortran_order': False, 'shape': ({}{comma}), }}",
        dtype.npy(),
        axes.join(", "),
    );
    let padded = (START + text.len() + 1).next_multiple_of(64) - START;
    text.push_str(&" ".repeat(padded - text.len() - 1));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\0".to_vec();
    bytes.extend((padded as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    Ok(bytes)
}

/// The header of one tensor, `len` bytes long.
fn tensors(path: &Path, header: &Header<'_>, len: usize) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    struct File {
        #[serde(rename = "__metadata__", skip_serializing_if = "BTreeMap::is_empty")]
        metadata: BTreeMap<&'static str, String>,
        video: TensorInfo,
    }
    let told = header.fps.map(|fps| [("fps", fps.to_string()), ("axes", "f h w c".to_owned())]);
    let video = TensorInfo {
        dtype: header.dtype.tensor(),
        shape: header.shape.to_vec(),
        data_offsets: (0, len),
    };
    let file = File { metadata: told.into_iter().flatten().collect(), video };
    let json = serde_json::to_string(&file);
    let mut json = json.map_err(|e| Error::write(path, std::io::Error::other(e)))?;
    json.push_str(&" ".repeat(json.len().next_multiple_of(8) - json.len()));
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.as_bytes());
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use vd_tensor_ops::Weights;

    #[test]
    fn other_readers_find_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        for (w, c) in [(3, 3), (1000, 1)] {
            let bytes: Vec<u8> = (0..2 * 5 * w * c).map(|k| (k * 7) as u8).collect();
            let clip = Clip::new(bytes, [2, 5, w, c], 12.5).unwrap();
            let shape = [2, 5, w as i64, c as i64];
            let expected = tch::Tensor::from_slice(&clip.frames).view(shape);
            let path = folder.path().join("a.npy");
            write_clip(&path, ArrayFormat::Npy, &clip).unwrap();
            let found = tch::Tensor::read_npy(&path).unwrap();
            assert_eq!((found.kind(), found), (tch::Kind::Uint8, expected.shallow_clone()));
            let path = folder.path().join("a.safetensors");
            write_clip(&path, ArrayFormat::Safetensors, &clip).unwrap();
            let found = Weights::read(&path, tch::Device::Cpu).unwrap();
            assert_eq!(found.tensors["video"], expected);
            assert_eq!(found.metadata["fps"], "12.5");
        }
    }

    #[test]
    fn other_readers_find_numbers_and_their_rate() {
        let folder = tempfile::tempdir().unwrap();
        let values: Vec<f32> = (0..2 * 3 * 4 * 5).map(|k| k as f32 * 0.37 - 9.0).collect();
        let clip = FloatClip::new(values, [2, 3, 4, 5], 12.5).unwrap();
        let expected = tch::Tensor::from_slice(&clip.values).view([2, 3, 4, 5]);
        let path = folder.path().join("a.npy");
        write_floats(&path, ArrayFormat::Npy, Dtype::F32, &clip).unwrap();
        assert_eq!(tch::Tensor::read_npy(&path).unwrap(), expected);
        let path = folder.path().join("a.safetensors");
        write_floats(&path, ArrayFormat::Safetensors, Dtype::F64, &clip).unwrap();
        let found = Weights::read(&path, tch::Device::Cpu).unwrap();
        assert_eq!(found.tensors["video"], expected.to_kind(tch::Kind::Double));
        assert_eq!((&*found.metadata["fps"], &*found.metadata["axes"]), ("12.5", "f h w c"));
    }
}
