//! Clips as arrays of bytes: NumPy and safetensors.

use std::path::Path;

use serde_json::json;

use super::write_file;
use crate::{Clip, Error, Result};

/// Writes a clip as `.npy`: u8, f h w c. The format has no place for its rate.
///
/// # Errors
/// A clip that is not valid; a file that cannot be written.
pub fn write_npy(path: &Path, clip: &Clip) -> Result<()> {
    clip.check()?;
    let Clip { f, h, w, c, .. } = clip;
    let mut header =
        format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({f}, {h}, {w}, {c}), }}");
    // the values begin at a multiple of 64, behind 10 bytes and the end of the line
    let filled = (header.len() + 11).next_multiple_of(64) - 11;
    header.extend(std::iter::repeat_n(' ', filled - header.len()));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend_from_slice(&clip.frames);
    write_file(path, &bytes)
}

/// Writes a clip as safetensors: one tensor `video`, u8, f h w c, with `fps` and the meaning of the axes in the metadata.
///
/// # Errors
/// A clip that is not valid; a file that cannot be written.
pub fn write_safetensors(path: &Path, clip: &Clip) -> Result<()> {
    clip.check()?;
    let Clip { f, h, w, c, fps, .. } = clip;
    let header = json!({
        "__metadata__": { "fps": fps.to_string(), "axes": "f h w c" },
        "video": { "dtype": "U8", "shape": [f, h, w, c], "data_offsets": [0, clip.frames.len()] },
    });
    let mut header =
        serde_json::to_string(&header).map_err(|e| Error::write(path, std::io::Error::other(e)))?;
    let filled = header.len().next_multiple_of(8);
    header.extend(std::iter::repeat_n(' ', filled - header.len()));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend_from_slice(&clip.frames);
    write_file(path, &bytes)
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
            write_npy(&path, &clip).unwrap();
            let found = tch::Tensor::read_npy(&path).unwrap();
            assert_eq!((found.kind(), found), (tch::Kind::Uint8, expected.shallow_clone()));
            let path = folder.path().join("a.safetensors");
            write_safetensors(&path, &clip).unwrap();
            let found = Weights::read(&path, tch::Device::Cpu).unwrap();
            assert_eq!(found.tensors["video"], expected);
            assert_eq!(found.metadata["fps"], "12.5");
        }
    }
}
