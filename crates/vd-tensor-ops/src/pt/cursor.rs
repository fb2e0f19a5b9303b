//! A position in a slice; no read passes the end, whatever length the file claims.

use super::Parse;

/// Reads a slice from front to back.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(all: &'a [u8]) -> Self {
        Cursor { all, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Bytes still to read.
    pub(super) fn left(&self) -> usize {
        self.all.len() - self.at
    }

    fn rest(&self) -> &'a [u8] {
        self.all.get(self.at..).unwrap_or_default()
    }

    pub(super) fn take(&mut self, n: usize) -> Parse<&'a [u8]> {
        let bytes = self.rest().get(..n).ok_or("truncated")?;
        self.at += n;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Parse<[u8; N]> {
        let bytes = self.rest().first_chunk::<N>().ok_or("truncated")?;
        self.at += N;
        Ok(*bytes)
    }

    pub(super) fn u8(&mut self) -> Parse<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// A length of four signed bytes.
    pub(super) fn i32_len(&mut self) -> Parse<usize> {
        let len = i32::from_le_bytes(self.array()?);
        usize::try_from(len).map_err(|_| format!("a length of {len}"))
    }

    /// Bytes after a length of one byte.
    pub(super) fn short(&mut self) -> Parse<&'a [u8]> {
        let len = usize::from(self.u8()?);
        self.take(len)
    }

    /// Bytes after a length of four bytes.
    pub(super) fn medium(&mut self) -> Parse<&'a [u8]> {
        let len = u32::from_le_bytes(self.array()?);
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// Bytes after a length of eight bytes.
    pub(super) fn long(&mut self) -> Parse<&'a [u8]> {
        let len = u64::from_le_bytes(self.array()?);
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// A text terminated by a line feed.
    pub(super) fn line(&mut self) -> Parse<&'a str> {
        let rest = self.rest();
        let end = rest.iter().position(|&b| b == b'\n').ok_or("truncated")?;
        let text =
            std::str::from_utf8(&rest[..end]).map_err(|e| format!("a name is not UTF-8: {e}"))?;
        self.at += end + 1;
        Ok(text)
    }
}
