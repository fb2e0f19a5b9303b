//! Names in an index.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A path with arbitrary bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Name {
    /// Valid text.
    Text(String),
    /// Anything else.
    Bytes {
        /// Its bytes in hexadecimal.
        hex: String,
    },
}

impl Name {
    pub(super) fn of(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self::Text(text.to_owned()),
            None => Self::Bytes { hex: to_hex(path.as_os_str().as_encoded_bytes()) },
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::Text(text) => PathBuf::from(text),
            Self::Bytes { hex } => PathBuf::from(from_bytes(of_hex(hex))),
        }
    }
}

#[cfg(unix)]
fn from_bytes(bytes: Vec<u8>) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}

#[cfg(not(unix))]
fn from_bytes(bytes: Vec<u8>) -> OsString {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Invalid digits count as 0: such a name matches no file, and is never used to open one.
fn of_hex(hex: &str) -> Vec<u8> {
    let digit = |c: &u8| char::from(*c).to_digit(16).unwrap_or(0) as u8;
    hex.as_bytes().chunks(2).map(|two| two.iter().fold(0, |n, c| (n << 4) | digit(c))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn any_name_survives_a_line() {
        use std::os::unix::ffi::OsStringExt;
        for bytes in [&b"a/b.gif"[..], b"-n\n\"x\".gif", b"\xff\xfe/\x80.gif", "ä".as_bytes()] {
            let path = PathBuf::from(OsString::from_vec(bytes.to_vec()));
            let text = serde_json::to_string(&Name::of(&path)).unwrap();
            assert!(!text.contains('\n'));
            assert_eq!(serde_json::from_str::<Name>(&text).unwrap().path(), path);
        }
    }
}
