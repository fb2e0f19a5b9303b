//! Files of embeddings: safetensors and npy.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Weights;

use crate::npy::{self, Array};
use crate::{Error, Result};

/// The tensor of a safetensors file that holds the embeddings.
pub(crate) const TENSOR: &str = "embeddings";

/// Reads rows of embeddings, without prompts, onto the CPU.
///
/// A .npy file holds one f32 array; a .safetensors file an f32 tensor `embeddings`, or a single f32
/// tensor under any name.
///
/// # Shapes
/// n d, or d for a single row -> n d
/// # Errors
/// Another file extension, kind or shape; values that are not finite; a file that cannot be read.
pub fn read_embeddings(path: &Path) -> Result<Tensor> {
    Ok(read(path)?.rows)
}

/// Embeddings and the metadata stored with them.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) rows: Tensor,
    /// The metadata entry `prompts` of a safetensors file.
    pub(crate) prompts: Option<String>,
}

pub(crate) fn read(path: &Path) -> Result<Rows> {
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    let (rows, prompts) = match ending.as_deref() {
        Some("npy") => (read_npy(path)?, None),
        Some("safetensors") => read_safetensors(path)?,
        _ => {
            return Err(refused(path, "name", "NAME.safetensors or NAME.npy", "another extension"));
        }
    };
    Ok(Rows { rows: checked(path, rows)?, prompts })
}

pub(crate) fn refused(
    path: &Path,
    what: impl Into<String>,
    expected: impl Into<String>,
    got: impl Into<String>,
) -> Error {
    Error::Embeddings {
        path: path.to_path_buf(),
        what: what.into(),
        expected: expected.into(),
        got: got.into(),
    }
}

fn read_safetensors(path: &Path) -> Result<(Tensor, Option<String>)> {
    let Weights { mut tensors, mut metadata } = Weights::read(path, Device::Cpu)?;
    let names: Vec<_> = tensors.keys().map(|name| format!("`{name}`")).collect();
    let found = tensors.remove(TENSOR).or_else(|| {
        let first = tensors.pop_first();
        first.filter(|_| tensors.is_empty()).map(|(_, tensor)| tensor)
    });
    let rows = found.ok_or_else(|| {
        let got = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        refused(path, "tensors", format!("one named `{TENSOR}`, or a single one"), got)
    })?;
    if rows.kind() != Kind::Float {
        return Err(refused(path, "embeddings", "f32 values", format!("{:?}", rows.kind())));
    }
    Ok((rows, metadata.remove("prompts")))
}

fn read_npy(path: &Path) -> Result<Tensor> {
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let Array { shape, fortran, values } = npy::read(BufReader::new(file), length)
        .map_err(|damage| refused(path, damage.what, damage.expected, damage.got))?;
    let flat = Tensor::f_from_slice(&values)?;
    Ok(match shape.as_slice() {
        [n, d] if fortran => flat.f_view([*d, *n])?.f_transpose(0, 1)?.f_contiguous()?,
        _ => flat.f_view(shape.as_slice())?,
    })
}

/// The rows as n d, after checks.
fn checked(path: &Path, rows: Tensor) -> Result<Tensor> {
    let rows = if rows.dim() == 1 { rows.f_unsqueeze(0)? } else { rows };
    if rows.dim() != 2 || rows.numel() == 0 {
        let got = format!("{:?}", rows.size());
        return Err(refused(path, "shape", "n d, at least one row of one value", got));
    }
    let bad = rows.f_isfinite()?.f_logical_not()?.f_any_dim(1, false)?;
    if bad.f_any()?.f_int64_value(&[])? != 0 {
        let row = bad.to_kind(Kind::Int64).argmax(0, false).int64_value(&[]);
        return Err(refused(path, format!("row {row}"), "finite values", "NaN or infinity"));
    }
    Ok(rows)
}
