//! The .npy format, as far as needed for embeddings.

use std::io::Read;

/// An array of f32 numbers.
#[derive(Debug)]
pub(crate) struct Array {
    pub(crate) shape: Vec<i64>,
    /// Whether the first axis is the fastest-varying in `values` (Fortran order).
    pub(crate) fortran: bool,
    pub(crate) values: Vec<f32>,
}

/// A part of the file, with its expected and actual content.
#[derive(Debug)]
pub(crate) struct Damage {
    pub(crate) what: &'static str,
    pub(crate) expected: String,
    pub(crate) got: String,
}

/// The longest header accepted; NumPy's own are 118 bytes for such arrays.
const MAX_HEADER: usize = 1 << 16;

/// Reads an array of f32 numbers from a file of `length` bytes.
///
/// Before allocating, checks the header against the length of the file.
pub(crate) fn read(mut file: impl Read, length: u64) -> Result<Array, Damage> {
    let header = read_header(&mut file)?;
    let text = String::from_utf8_lossy(&header.text);
    let descr = quoted(&text, "descr").unwrap_or_default();
    let big = match descr {
        "<f4" | "=f4" => false,
        ">f4" => true,
        _ => return Err(damage("embeddings", "float32 values", format!("the type \"{descr}\""))),
    };
    let fortran = match value(&text, "fortran_order") {
        Some(rest) if rest.starts_with("True") => true,
        Some(rest) if rest.starts_with("False") => false,
        _ => return Err(damage("header", "fortran_order of True or False", text)),
    };
    let shape = shape(&text).ok_or_else(|| damage("header", "a shape", &*text))?;
    let claimed = shape.iter().try_fold(4i64, |n, axis| n.checked_mul(*axis));
    let there = i64::try_from(length).unwrap_or(i64::MAX) - header.end as i64;
    if claimed != Some(there) {
        let expected = format!("f32 values of shape {shape:?} after the header");
        return Err(damage("length", expected, format!("{there} bytes")));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(there).unwrap_or(0));
    file.read_to_end(&mut bytes).map_err(cut_off)?;
    if bytes.len() as i64 != there {
        return Err(damage("length", format!("{there} bytes"), format!("{}", bytes.len())));
    }
    let (words, _) = bytes.as_chunks::<4>();
    let read =
        |word: &[u8; 4]| if big { f32::from_be_bytes(*word) } else { f32::from_le_bytes(*word) };
    Ok(Array { shape, fortran, values: words.iter().map(read).collect() })
}

struct Header {
    text: Vec<u8>,
    /// Offset of the values.
    end: usize,
}

/// Versions 1 to 3 differ in the width of the length and in the encoding of field names, which do
/// not occur here.
fn read_header(file: &mut impl Read) -> Result<Header, Damage> {
    let mut start = [0; 8];
    file.read_exact(&mut start).map_err(cut_off)?;
    if &start[..6] != b"\x93NUMPY" {
        return Err(damage("header", "that of a .npy file", "other bytes"));
    }
    let mut size = [0; 4];
    let width = match start[6] {
        1 => 2,
        2 | 3 => 4,
        version => return Err(damage("header", "format version 1, 2 or 3", format!("{version}"))),
    };
    file.read_exact(&mut size[..width]).map_err(cut_off)?;
    let size = u32::from_le_bytes(size) as usize;
    if size > MAX_HEADER {
        return Err(damage("header", format!("at most {MAX_HEADER} bytes"), format!("{size}")));
    }
    let mut text = vec![0; size];
    file.read_exact(&mut text).map_err(cut_off)?;
    Ok(Header { text, end: start.len() + width + size })
}

/// The value of a key of the header, a Python dictionary without nesting.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut quotes = ['\'', '"'].into_iter();
    let rest = quotes.find_map(|q| text.split_once(&format!("{q}{key}{q}")))?.1;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

fn quoted<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let rest = value(text, key)?;
    let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    rest[1..].split(quote).next()
}

fn shape(text: &str) -> Option<Vec<i64>> {
    let inside = value(text, "shape")?.strip_prefix('(')?.split(')').next()?;
    let axes = inside.split(',').map(str::trim).filter(|axis| !axis.is_empty());
    axes.map(|axis| axis.parse().ok().filter(|n| *n >= 0)).collect()
}

fn cut_off(error: std::io::Error) -> Damage {
    damage("length", "a complete .npy file", error.to_string())
}

fn damage(what: &'static str, expected: impl Into<String>, got: impl Into<String>) -> Damage {
    Damage { what, expected: expected.into(), got: got.into() }
}
