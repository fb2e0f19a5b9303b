//! Numbers as `.npy` and safetensors.

use std::path::Path;
use std::str::FromStr;

use safetensors::tensor::TensorInfo;

use super::write_file;
use crate::array::Dtype;
use crate::{Error, Result};

/// A file format of one array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArrayFormat {
    /// NumPy's.
    Npy,
    /// One tensor, `video`.
    Safetensors,
}

impl ArrayFormat {
    /// The ending of its files, which is its name.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Npy => "npy",
            Self::Safetensors => "safetensors",
        }
    }
}

impl FromStr for ArrayFormat {
    type Err = String;

    fn from_str(s: &str) -> std::result::Result<Self, String> {
        let found = [Self::Npy, Self::Safetensors].into_iter().find(|one| one.ending() == s);
        found.ok_or_else(|| "expected npy or safetensors".to_owned())
    }
}

/// Writes numbers, the last axis fastest; those of whole kinds are rounded to nearest and held in range.
///
/// # Errors
/// A shape of another number of values; bf16 for `.npy`, which has no such kind; a file that cannot be
/// written.
pub fn write_array(
    path: &Path,
    format: ArrayFormat,
    dtype: Dtype,
    shape: &[usize],
    values: &[f32],
) -> Result<()> {
    if shape.iter().try_fold(1usize, |n, axis| n.checked_mul(*axis)) != Some(values.len()) {
        let got = format!("{} values", values.len());
        return Err(Error::clip(format!("as many values as the shape {shape:?} has"), got));
    }
    let mut bytes = match format {
        ArrayFormat::Npy => npy(dtype, shape)?,
        ArrayFormat::Safetensors => tensors(path, dtype, shape, values.len() * dtype.bytes())?,
    };
    bytes.extend(dtype.encode(values)?);
    write_file(path, &bytes)
}

/// A header of version 1, behind which the numbers begin at a multiple of 64 bytes, as the format asks.
fn npy(dtype: Dtype, shape: &[usize]) -> Result<Vec<u8>> {
    const START: usize = 10;
    if dtype.npy().is_empty() {
        return Err(Error::clip(
            "a kind of numbers that .npy has, such as f16 or f32",
            dtype.name(),
        ));
    }
    let order = if dtype.bytes() == 1 { '|' } else { '<' };
    let axes: String = shape.iter().map(|axis| format!("{axis}, ")).collect();
    let mut text = format!(
        "{{'descr': '{order}{}', 'fortran_order': False, 'shape': ({}), }}",
        dtype.npy(),
        axes.trim_end(),
    );
    let padded = (START + text.len() + 1).next_multiple_of(64) - START;
    text.push_str(&" ".repeat(padded - text.len() - 1));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\0".to_vec();
    bytes.extend((padded as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    Ok(bytes)
}

fn tensors(path: &Path, dtype: Dtype, shape: &[usize], len: usize) -> Result<Vec<u8>> {
    let info = TensorInfo { dtype: dtype.tensor(), shape: shape.to_vec(), data_offsets: (0, len) };
    let json = serde_json::to_string(&std::collections::BTreeMap::from([("video", info)]));
    let mut json = json.map_err(|e| Error::write(path, std::io::Error::other(e)))?;
    json.push_str(&" ".repeat(json.len().next_multiple_of(8) - json.len()));
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.as_bytes());
    Ok(bytes)
}
