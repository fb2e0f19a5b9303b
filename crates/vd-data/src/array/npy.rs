//! The header of a `.npy` file.

use std::io::Read;

use super::dtype::Dtype;

/// The content of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) dtype: Dtype,
    /// Whether the numbers are big-endian.
    pub(super) big: bool,
    /// Whether the first axis varies fastest (Fortran order).
    pub(super) fortran: bool,
    pub(super) shape: Vec<u64>,
    /// The size of the header in bytes; the numbers follow it.
    pub(super) len: u64,
}

/// What was expected and what was found.
pub(super) type Wrong = (String, String);

/// The longest header that is read; NumPy's own take 118 bytes for such arrays.
const MAX_HEADER: usize = 1 << 16;
/// The maximum number of axes in NumPy.
const MAX_AXES: usize = 64;

/// Reads a header without trusting its length field: at most 64 KiB are allocated.
///
/// # Reference
/// NumPy's format description, versions 1 to 3; they differ in the width of the length field and in
/// the encoding of field names, which plain numeric arrays do not have.
pub(super) fn read(mut file: impl Read) -> Result<Header, Wrong> {
    let mut start = [0; 8];
    file.read_exact(&mut start).map_err(cut)?;
    if &start[..6] != b"\x93NUMPY" {
        return Err(wrong("the first bytes of a .npy array", "other bytes"));
    }
    let mut size = [0; 4];
    let width = match start[6] {
        1 => 2,
        2 | 3 => 4,
        version => return Err(wrong("version 1, 2 or 3 of the .npy format", version.to_string())),
    };
    file.read_exact(&mut size[..width]).map_err(cut)?;
    let size = u32::from_le_bytes(size) as usize;
    if size > MAX_HEADER {
        let expected = format!("a .npy header of at most {MAX_HEADER} bytes");
        return Err((expected, format!("a length of {size}")));
    }
    let mut text = vec![0; size];
    file.read_exact(&mut text).map_err(cut)?;
    let text = String::from_utf8_lossy(&text);
    parse(&text, (start.len() + width + size) as u64)
}

fn parse(text: &str, len: u64) -> Result<Header, Wrong> {
    let descr = value(text, "descr").and_then(quoted).ok_or_else(|| {
        let got = value(text, "descr").map_or("none", |rest| {
            if rest.starts_with('[') { "a structured type" } else { "another" }
        });
        (format!("a single number type, one of {}", Dtype::names()), format!("the descr is {got}"))
    })?;
    let (dtype, big) = Dtype::of_npy(descr).ok_or_else(|| {
        (
            format!("one of the number types {}", Dtype::names()),
            format!("the type \"{}\"", descr.escape_debug()),
        )
    })?;
    let fortran = match value(text, "fortran_order") {
        Some(rest) if rest.starts_with("True") => true,
        Some(rest) if rest.starts_with("False") => false,
        _ => return Err(wrong("fortran_order: True or False in the .npy header", "neither")),
    };
    let shape = value(text, "shape").and_then(shape).ok_or_else(|| {
        let found = value(text, "shape").unwrap_or("none");
        let found: String = found.chars().take(80).collect();
        (
            format!("a shape of at most {MAX_AXES} numbers from 0 in the .npy header"),
            format!("\"{}\"", found.escape_debug()),
        )
    })?;
    Ok(Header { dtype, big, fortran, shape, len })
}

/// The text after a key of the header, a Python dictionary without nested ones.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut quotes = ['\'', '"'].into_iter();
    let rest = quotes.find_map(|q| text.split_once(&format!("{q}{key}{q}")))?.1;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

fn quoted(rest: &str) -> Option<&str> {
    let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    rest[1..].split_once(quote).map(|(inside, _)| inside)
}

fn shape(rest: &str) -> Option<Vec<u64>> {
    let (inside, _) = rest.strip_prefix('(')?.split_once(')')?;
    let axes = inside.split(',').map(str::trim).filter(|axis| !axis.is_empty());
    // Python 2 wrote long numbers with an L
    let axes = axes.map(|axis| axis.strip_suffix('L').unwrap_or(axis).parse().ok());
    let shape = axes.take(MAX_AXES + 1).collect::<Option<Vec<u64>>>()?;
    (shape.len() <= MAX_AXES).then_some(shape)
}

fn cut(error: std::io::Error) -> Wrong {
    wrong("a complete .npy header", error.to_string())
}

fn wrong(expected: &str, found: impl Into<String>) -> Wrong {
    (expected.to_owned(), found.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn file(version: u8, text: &str) -> Vec<u8> {
        let mut bytes = vec![0x93, b'N', b'U', b'M', b'P', b'Y', version, 0];
        let len = (text.len() as u32).to_le_bytes();
        bytes.extend(&len[..if version == 1 { 2 } else { 4 }]);
        bytes.extend(text.as_bytes());
        bytes
    }

    #[test]
    fn headers_as_numpy_writes_them_are_read() {
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4, 5), }      \n";
        for version in [1, 2, 3] {
            let found = read(&file(version, text)[..]).unwrap();
            let len = file(version, text).len() as u64;
            let expected =
                Header { dtype: Dtype::F32, big: false, fortran: false, shape: vec![3, 4, 5], len };
            assert_eq!(found, expected);
        }
        let text = "{\"shape\": (7L,), \"fortran_order\": True, \"descr\": \">u2\"}";
        let found = read(&file(1, text)[..]).unwrap();
        assert_eq!((found.dtype, found.big, found.fortran), (Dtype::U16, true, true));
        assert_eq!(found.shape, [7]);
    }

    #[test]
    fn headers_that_lie_or_name_other_types_are_refused_and_say_why() {
        let of = |descr: &str, shape: &str| {
            let text = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}");
            let (expected, found) = read(&file(1, &text)[..]).unwrap_err();
            format!("{expected} / {found}")
        };
        assert!(of("'<c8'", "(1,)").contains("\"<c8\""));
        assert!(of("'|O'", "(1,)").contains("\"|O\""));
        assert!(of("[('a', '<f4')]", "(1,)").contains("structured"));
        for shape in ["(-1, 2)", "(18446744073709551616,)", "3", "(1, 2", "(a,)"] {
            assert!(of("'<f4'", shape).contains("shape"), "{shape}");
        }
        assert!(of("'<f4'", &format!("({})", "1,".repeat(65))).contains("at most 64"));
        // a length of 4 GiB is refused before anything is allocated
        let mut huge = vec![0x93, b'N', b'U', b'M', b'P', b'Y', 2, 0];
        huge.extend([0xff; 4]);
        assert!(read(&huge[..]).unwrap_err().1.contains("4294967295"));
        assert!(read(&b"\x93NUMPY\x01\0\x10\0{"[..]).is_err());
        assert!(read(&b"\x93NUMPY\x09\0\x10\0{"[..]).unwrap_err().1.contains('9'));
    }
}
