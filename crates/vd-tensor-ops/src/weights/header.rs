//! The header of a safetensors file: its length, then JSON that names every tensor.

use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use tch::Kind;

/// The reason for refusing a header; the reader adds the path.
pub(super) type Parse<T> = std::result::Result<T, String>;

/// The length field before the JSON, and the alignment of the data after it.
const LEN_BYTES: usize = 8;
/// The format's own limit on the JSON.
const MAX_JSON: usize = 100_000_000;
/// The one key that does not name a tensor.
const METADATA_KEY: &str = "__metadata__";

/// The dtype of the file format for a kind, `None` if this crate does not store it.
pub(super) fn dtype(kind: Kind) -> Option<Dtype> {
    Some(match kind {
        Kind::Double => Dtype::F64,
        Kind::Float => Dtype::F32,
        Kind::Half => Dtype::F16,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Int64 => Dtype::I64,
        Kind::Int => Dtype::I32,
        Kind::Int16 => Dtype::I16,
        Kind::Int8 => Dtype::I8,
        Kind::Uint8 => Dtype::U8,
        Kind::Bool => Dtype::BOOL,
        _ => return None,
    })
}

/// The inverse of [`dtype`].
pub(super) fn kind(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::I16 => Kind::Int16,
        Dtype::I8 => Kind::Int8,
        Dtype::U8 => Kind::Uint8,
        Dtype::BOOL => Kind::Bool,
        _ => return None,
    })
}

/// Splits a file into its header and its data, which the tensors fill without gap or overlap.
pub(super) fn decode(file: &[u8]) -> Parse<(Metadata, &[u8])> {
    let (len, rest) = file
        .split_first_chunk::<LEN_BYTES>()
        .ok_or_else(|| format!("{} bytes are too few for a safetensors file", file.len()))?;
    let len = usize::try_from(u64::from_le_bytes(*len)).unwrap_or(usize::MAX);
    if len > MAX_JSON {
        return Err(format!(
            "not a safetensors file: its first 8 bytes give a header length of {len} bytes"
        ));
    }
    let (json, data) = rest.split_at_checked(len).ok_or_else(|| {
        format!("truncated: the header has {len} bytes, the file only {} of them", rest.len())
    })?;
    let metadata: Metadata = serde_json::from_slice(json)
        .map_err(|e| format!("the header is damaged or no safetensors header: {e}"))?;
    // Compared rather than summed: adding the file's own numbers could overflow.
    if metadata.data_len() != data.len() {
        let verdict = if metadata.data_len() > data.len() { "truncated" } else { "too long" };
        return Err(format!(
            "{verdict}: the tensors take {} bytes, the file holds {}",
            metadata.data_len(),
            data.len()
        ));
    }
    Ok((metadata, data))
}

/// The length field and the JSON for tensors that follow in the given order.
pub(super) fn encode(
    tensors: Vec<(String, TensorInfo)>,
    metadata: &BTreeMap<String, String>,
) -> Parse<Vec<u8>> {
    if tensors.iter().any(|(name, _)| name == METADATA_KEY) {
        return Err(format!("a tensor cannot be named `{METADATA_KEY}`: the format reserves it"));
    }
    let checked = Metadata::new(None, tensors).map_err(|e| e.to_string())?;
    let mut json = serde_json::to_string(&checked).map_err(|e| e.to_string())?;
    if !metadata.is_empty() {
        // Written separately: the library keeps these in a hash map, whose order changes from run
        // to run.
        let entries = serde_json::to_string(metadata).map_err(|e| e.to_string())?;
        let comma = if json == "{}" { "" } else { "," };
        json.insert_str(1, &format!("\"{METADATA_KEY}\":{entries}{comma}"));
    }
    let padded = json.len().next_multiple_of(LEN_BYTES);
    if padded > MAX_JSON {
        return Err(format!("names and metadata take {padded} bytes, at most {MAX_JSON} fit"));
    }
    let mut header = (padded as u64).to_le_bytes().to_vec();
    header.extend_from_slice(json.as_bytes());
    header.resize(LEN_BYTES + padded, b' ');
    Ok(header)
}
