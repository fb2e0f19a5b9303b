//! Named tensors in a safetensors file, read strictly and written reproducibly, byte for byte.

mod file;
mod header;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorInfo};
use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

pub(crate) use file::{FileBytes, map};
pub use file::{write_atomically, write_atomically_with};

// Both file formats of this crate are little-endian and are copied as they are.
const _: () = assert!(cfg!(target_endian = "little"), "weights are read as little-endian bytes");

/// Named tensors and named strings: what one safetensors file holds.
///
/// # Range
/// Tensors of f64, f32, f16, bf16, i64, i32, i16, i8, u8 and bool, of any shape, zero-size ones and
/// scalars included.
#[derive(Default)]
pub struct Weights {
    /// The tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Strings that describe them, such as the format's version.
    pub metadata: BTreeMap<String, String>,
}

impl Weights {
    /// Reads every tensor of a file onto a device.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be opened; [`Error::Format`] if it is truncated, too long
    /// or damaged, its tensors overlap or leave gaps, or a tensor has another dtype.
    pub fn read(path: &Path, device: Device) -> Result<Weights> {
        let format = |what| Error::Format { path: path.to_owned(), what };
        let bytes = map(path)?;
        let (header, data) = header::decode(bytes.as_ref()).map_err(format)?;
        let mut weights = Weights::default();
        for (name, info) in header.tensors() {
            let (start, end) = info.data_offsets;
            let content = data.get(start..end).ok_or_else(|| {
                format(format!("tensor `{name}` lies outside the file: bytes {start} to {end}"))
            })?;
            let tensor = decode_tensor(&name, info, content).map_err(format)?;
            let tensor = tensor.f_to_device(device)?;
            weights.tensors.insert(name, tensor);
        }
        if let Some(metadata) = header.metadata() {
            weights.metadata = metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        }
        Ok(weights)
    }

    /// Refuses a file that is truncated, too long or not a safetensors file, by its header alone.
    ///
    /// # Errors
    /// Those of [`Weights::read`] that can be found without reading the tensors.
    pub fn check(path: &Path) -> Result<()> {
        let bytes = map(path)?;
        let whole = header::decode(bytes.as_ref());
        whole.map(|_| ()).map_err(|what| Error::Format { path: path.to_owned(), what })
    }

    /// Writes a file atomically (see [`write_atomically_with`]).
    ///
    /// The same names, values and metadata always give the same bytes.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written; [`Error::Format`] if a tensor has another dtype
    /// than those of [`Weights`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let format = |what| Error::Format { path: path.to_owned(), what };
        let mut tensors = Vec::with_capacity(self.tensors.len());
        for (name, tensor) in &self.tensors {
            tensors.push((name, tensor, dtype_of(name, tensor).map_err(format)?));
        }
        // Wide elements first, so that each tensor starts at a multiple of its element's size.
        tensors.sort_by(|a, b| b.2.cmp(&a.2).then(a.0.cmp(b.0)));
        let mut offset = 0;
        let infos = tensors.iter().map(|(name, tensor, dtype)| {
            let shape: Vec<usize> =
                tensor.size().iter().map(|&d| d.unsigned_abs() as usize).collect();
            let start = offset;
            offset += shape.iter().product::<usize>() * dtype.bitsize() / 8;
            (name.to_string(), TensorInfo { dtype: *dtype, shape, data_offsets: (start, offset) })
        });
        let header = header::encode(infos.collect(), &self.metadata).map_err(format)?;
        let io_error = |source| Error::Io { path: path.to_owned(), source };
        write_atomically_with(path, |file| {
            file.write_all(&header).map_err(io_error)?;
            for (_, tensor, dtype) in &tensors {
                let numel = tensor.numel();
                let mut content = vec![0; numel * dtype.bitsize() / 8];
                tensor.f_copy_data_u8(&mut content, numel)?;
                file.write_all(&content).map_err(io_error)?;
            }
            Ok(())
        })
    }
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shapes = self.tensors.iter().map(|(name, t)| (name, (t.f_kind(), t.size())));
        f.debug_struct("Weights")
            .field("tensors", &shapes.collect::<BTreeMap<_, _>>())
            .field("metadata", &self.metadata)
            .finish()
    }
}

fn dtype_of(name: &str, tensor: &Tensor) -> header::Parse<Dtype> {
    let kind = tensor.f_kind().map_err(|e| format!("tensor `{name}`: {e}"))?;
    header::dtype(kind).ok_or_else(|| {
        format!(
            "tensor `{name}` has dtype {kind:?}, which is not stored; \
             convert it to one of f64, f32, f16, bf16, i64, i32, i16, i8, u8, bool"
        )
    })
}

fn decode_tensor(name: &str, info: &TensorInfo, content: &[u8]) -> header::Parse<Tensor> {
    let kind = header::kind(info.dtype).ok_or_else(|| {
        format!(
            "tensor `{name}` has dtype {}, expected one of F64, F32, F16, BF16, I64, I32, I16, I8, \
             U8, BOOL",
            info.dtype
        )
    })?;
    let shape =
        info.shape.iter().map(|&d| i64::try_from(d)).collect::<std::result::Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| format!("tensor `{name}` has the shape {:?}", info.shape))?;
    tensor_from_bytes(content, &shape, kind).map_err(|e| format!("tensor `{name}`: {e}"))
}

/// A contiguous tensor of these bytes.
pub(crate) fn tensor_from_bytes(
    content: &[u8],
    shape: &[i64],
    kind: Kind,
) -> header::Parse<Tensor> {
    // A copy beyond the slice, or an empty tensor whose other axes overflow libtorch's arithmetic.
    let bytes = shape
        .iter()
        .try_fold(kind.elt_size_in_bytes() as i64, |n, &d| n.checked_mul(d.max(1)))
        .ok_or_else(|| format!("the shape {shape:?} is too large"))?;
    let bytes = if shape.contains(&0) { 0 } else { bytes };
    if usize::try_from(bytes) != Ok(content.len()) || shape.iter().any(|&d| d < 0) {
        return Err(format!("the shape {shape:?} needs {bytes} bytes, got {}", content.len()));
    }
    // Any other byte is not a valid bool, and libtorch does not check.
    if kind == Kind::Bool
        && let Some(byte) = content.iter().find(|&&b| b > 1)
    {
        return Err(format!("a bool is 0 or 1, got {byte}: the file is damaged"));
    }
    Tensor::f_from_data_size(content, shape, kind).map_err(|e| e.to_string())
}
