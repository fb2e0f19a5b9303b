//! Checks that a file is as long as it claims: a decoder need not notice that a film is truncated.

use std::fs::File;
use std::io::Read;
#[cfg(feature = "libav")]
use std::io::{self, BufReader, ErrorKind, Seek};
use std::path::Path;

use crate::{Error, Result};

/// Refuses an AVI that is shorter than its header says: nothing else reveals the truncation.
pub(super) fn avi(path: &Path) -> Result<()> {
    let mut head = [0; 8];
    let mut file = File::open(path).map_err(|e| Error::read(path, e))?;
    let found = file.metadata().map_err(|e| Error::read(path, e))?.len();
    file.read_exact(&mut head).map_err(|e| Error::read(path, e))?;
    let [_, _, _, _, a, b, c, d] = head;
    compare(path, u64::from(u32::from_le_bytes([a, b, c, d])) + 8, found)
}

/// Refuses a WebM or MKV that ends within an element: ffprobe complains about it, but the library
/// does not.
#[cfg(feature = "libav")]
pub(super) fn matroska(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(|e| Error::read(path, e))?;
    let found = file.metadata().map_err(|e| Error::read(path, e))?.len();
    let stated = end(&mut BufReader::new(file), found).map_err(|e| Error::read(path, e))?;
    compare(path, stated, found)
}

fn compare(path: &Path, stated: u64, found: u64) -> Result<()> {
    if stated > found {
        let expected = format!("{stated} bytes, as its header states");
        return Err(Error::damaged(path, expected, format!("{found}")));
    }
    Ok(())
}

/// Where the last element of a file of `length` bytes ends. Elements of unknown length are entered,
/// the others skipped; anything after the last valid element is ignored.
#[cfg(feature = "libav")]
fn end(reader: &mut BufReader<impl Read + Seek>, length: u64) -> io::Result<u64> {
    let mut at = 0u64;
    while at < length {
        let head = match (number(reader, 4, true), number(reader, 8, false)) {
            (Ok(Some((_, id))), Ok(Some((size, bytes)))) => (size, u64::from(id + bytes)),
            (Err(e), _) | (_, Err(e)) if e.kind() == ErrorKind::UnexpectedEof => {
                return Ok(length.saturating_add(1));
            }
            (Err(e), _) | (_, Err(e)) => return Err(e),
            _ => return Ok(at),
        };
        let (size, bytes) = head;
        at = at.saturating_add(bytes).saturating_add(size.unwrap_or(0));
        if at < length
            && let Some(size) = size
        {
            reader.seek_relative(size as i64)?;
        }
    }
    Ok(at)
}

/// A number of up to `most` bytes, and its length, which its leading zero bits encode: an element's
/// name, or its size; a size of all ones means unknown.
#[cfg(feature = "libav")]
fn number(reader: &mut impl Read, most: u32, name: bool) -> io::Result<Option<(Option<u64>, u32)>> {
    let mut byte = [0];
    reader.read_exact(&mut byte)?;
    let bytes = byte[0].leading_zeros() + 1;
    if bytes > most {
        return Ok(None);
    }
    let mut value = u64::from(byte[0]);
    for _ in 1..bytes {
        reader.read_exact(&mut byte)?;
        value = value << 8 | u64::from(byte[0]);
    }
    let all = (1 << (7 * bytes)) - 1;
    let value = value & all;
    Ok(Some(((name || value != all).then_some(value), bytes)))
}

#[cfg(all(test, feature = "libav"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn end_of(bytes: &[u8]) -> u64 {
        end(&mut BufReader::new(Cursor::new(bytes)), bytes.len() as u64).unwrap()
    }

    #[test]
    fn elements_of_no_stated_length_are_entered() {
        // a header of 2 bytes, a segment without a length, a cluster of 3
        let mut bytes =
            b"\x1a\x45\xdf\xa3\x82ab\x18\x53\x80\x67\xff\x1f\x43\xb6\x75\x40\x03abc".to_vec();
        assert_eq!(end_of(&bytes), bytes.len() as u64);
        bytes.pop();
        assert_eq!(end_of(&bytes), bytes.len() as u64 + 1);
        // within the size of the cluster
        bytes.truncate(17);
        assert!(end_of(&bytes) > 17);
        bytes.truncate(12);
        assert_eq!(end_of(&bytes), 12);
        bytes.extend([0; 9]);
        assert_eq!(end_of(&bytes), 12);
        // an impossible length
        assert_eq!(end_of(b"\x1a\x45\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xfe"), (1 << 56) + 10);
    }

    #[test]
    fn no_damage_breaks_the_walk_along_the_elements() {
        let seed = b"\x1a\x45\xdf\xa3\x82ab\x18\x53\x80\x67\xff\x1f\x43\xb6\x75\x40\x03abc\xec\x80"
            .to_vec();
        vd_torch::fuzz::Fuzz::new(vec![seed]).run(|bytes| match end_of(bytes) {
            end if end > bytes.len() as u64 => Err("cut"),
            _ => Ok(()),
        });
    }
}
