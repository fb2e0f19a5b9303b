//! The arrays of a safetensors file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::tensor::Metadata;

use super::{Described, Place};
use crate::array::dtype::Dtype;
use crate::{Error, Result};

/// The length field before the header.
const LEN_BYTES: u64 = 8;
/// The format's own limit on the header.
const MAX_HEADER: u64 = 100_000_000;

/// Whether the first bytes of a file with this length are those of a safetensors file.
pub(crate) fn is_tensors(head: &[u8], length: u64) -> bool {
    match head.split_first_chunk::<8>() {
        Some((len, rest)) => {
            let header = u64::from_le_bytes(*len);
            (2..=length.saturating_sub(LEN_BYTES)).contains(&header) && rest.first() == Some(&b'{')
        }
        None => false,
    }
}

/// Lists all arrays, or the one called `member`, from the header.
pub(super) fn list(path: &Path, member: Option<&str>) -> Result<Vec<Described>> {
    let (metadata, start, length) = header(path)?;
    let mut described = Vec::new();
    for (name, info) in metadata.tensors() {
        if member.is_some_and(|member| member != name) {
            continue;
        }
        let dtype = Dtype::of_tensor(info.dtype).ok_or_else(|| {
            let expected =
                format!("array `{name}`: numbers of one of the types {}", Dtype::names());
            Error::damaged(path, expected, info.dtype.to_string())
        })?;
        let (from, to) = info.data_offsets;
        let place = Place::Plain(start + from as u64);
        if to as u64 > length - start || to < from {
            let expected = format!("array `{name}`: numbers inside the file");
            return Err(Error::damaged(path, expected, format!("bytes {from} to {to}")));
        }
        described.push(Described {
            member: Some(name),
            dtype,
            big: false,
            fortran: false,
            shape: info.shape.iter().map(|n| *n as u64).collect(),
            place,
            bytes: (to - from) as u64,
        });
    }
    if let (Some(member), true) = (member, described.is_empty()) {
        let keys = metadata.offset_keys();
        let names = listed(keys.iter().map(String::as_str));
        return Err(Error::damaged(path, format!("the array `{member}` (data.member)"), names));
    }
    Ok(described)
}

/// The header, the offset of the numbers, and the length of the file. A header is read only if the
/// file is long enough for it.
fn header(path: &Path) -> Result<(Metadata, u64, u64)> {
    let mut file = File::open(path).map_err(|e| Error::read(path, e))?;
    let length = file.metadata().map_err(|e| Error::read(path, e))?.len();
    let mut len = [0; LEN_BYTES as usize];
    let cut =
        |e: std::io::Error| Error::damaged(path, "a complete safetensors header", e.to_string());
    file.read_exact(&mut len).map_err(cut)?;
    let len = u64::from_le_bytes(len);
    let most = MAX_HEADER.min(length.saturating_sub(LEN_BYTES));
    if len > most {
        let expected = format!("a safetensors header of at most {most} bytes");
        return Err(Error::damaged(path, expected, format!("a length of {len}")));
    }
    let mut json = vec![0; len as usize];
    file.read_exact(&mut json).map_err(cut)?;
    let metadata: Metadata = serde_json::from_slice(&json)
        .map_err(|e| Error::damaged(path, "a safetensors header", e.to_string()))?;
    let start = LEN_BYTES + len;
    let data = metadata.data_len() as u64;
    if data != length - start {
        let expected = format!("{data} bytes of numbers, as the header states");
        return Err(Error::damaged(path, expected, format!("{}", length - start)));
    }
    Ok((metadata, start, length))
}

/// Some names, for an error message.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 10;
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(SHOWN);
    let shown: Vec<_> =
        names.iter().take(SHOWN).map(|name| name.escape_debug().to_string()).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
