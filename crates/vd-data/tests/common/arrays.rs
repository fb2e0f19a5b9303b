//! Files of arrays, assembled number by number.
#![allow(dead_code)]

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// How the numbers of a dtype are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) npy: &'static str,
    pub(crate) tensor: &'static str,
    /// The little-endian bytes of an integer, [0, 100].
    pub(crate) bytes: fn(u8) -> Vec<u8>,
}

macro_rules! kind {
    ($name:literal, $npy:literal, $tensor:literal, $of:expr) => {{
        let bytes = |x: u8| -> Vec<u8> {
            #[allow(clippy::redundant_closure_call)]
            ($of)(x).to_vec()
        };
        Kind { name: $name, npy: $npy, tensor: $tensor, bytes }
    }};
}

/// All but bool.
pub(crate) fn kinds() -> Vec<Kind> {
    vec![
        kind!("u8", "u1", "U8", |x: u8| [x]),
        kind!("i8", "i1", "I8", |x: u8| (x as i8).to_le_bytes()),
        kind!("u16", "u2", "U16", |x: u8| u16::from(x).to_le_bytes()),
        kind!("i16", "i2", "I16", |x: u8| i16::from(x).to_le_bytes()),
        kind!("u32", "u4", "U32", |x: u8| u32::from(x).to_le_bytes()),
        kind!("i32", "i4", "I32", |x: u8| i32::from(x).to_le_bytes()),
        kind!("u64", "u8", "U64", |x: u8| u64::from(x).to_le_bytes()),
        kind!("i64", "i8", "I64", |x: u8| i64::from(x).to_le_bytes()),
        kind!("f32", "f4", "F32", |x: u8| f32::from(x).to_le_bytes()),
        kind!("f64", "f8", "F64", |x: u8| f64::from(x).to_le_bytes()),
        // the upper half of an f32 has 8 bits for an integer
        kind!("bf16", "", "BF16", |x: u8| {
            let bits = f32::from(x).to_bits();
            ((bits >> 16) as u16).to_le_bytes()
        }),
    ]
}

/// Calls `visit` with every index of a shape, the last axis fastest, or the first.
pub(crate) fn each(shape: &[usize], fortran: bool, mut visit: impl FnMut(&[usize])) {
    let axes: Vec<usize> =
        if fortran { (0..shape.len()).collect() } else { (0..shape.len()).rev().collect() };
    let mut index = vec![0; shape.len()];
    for _ in 0..shape.iter().product() {
        visit(&index);
        for &axis in &axes {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// A `.npy` file.
pub(crate) fn npy(
    kind: Kind,
    shape: &[usize],
    [big, fortran]: [bool; 2],
    value: impl Fn(&[usize]) -> u8,
) -> Vec<u8> {
    let mut data = Vec::new();
    each(shape, fortran, |index| {
        let mut bytes = (kind.bytes)(value(index));
        if big {
            bytes.reverse();
        }
        data.extend(bytes);
    });
    let (order, fortran) = (if big { '>' } else { '<' }, if fortran { "True" } else { "False" });
    let axes: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let text = format!(
        "{{'descr': '{order}{}', 'fortran_order': {fortran}, 'shape': ({axes}), }}\n",
        kind.npy
    );
    [header(&text), data].concat()
}

/// The start of a `.npy` file with some header.
pub(crate) fn header(text: &str) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\0".to_vec();
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

/// An `.npz` file.
pub(crate) fn npz(members: &[(&str, Vec<u8>)], packed: bool) -> Vec<u8> {
    let method = if packed { CompressionMethod::Deflated } else { CompressionMethod::Stored };
    let options = SimpleFileOptions::default().compression_method(method);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A safetensors file.
pub(crate) fn tensors(
    kind: Kind,
    members: &[(&str, &[usize])],
    value: impl Fn(&[usize]) -> u8,
) -> Vec<u8> {
    let (mut data, mut entries) = (Vec::new(), Vec::new());
    for (name, shape) in members {
        let start = data.len();
        each(shape, false, |index| data.extend((kind.bytes)(value(index))));
        entries.push(format!(
            "\"{name}\":{{\"dtype\":\"{}\",\"shape\":{shape:?},\"data_offsets\":[{start},{}]}}",
            kind.tensor,
            data.len()
        ));
    }
    let json = format!("{{{}}}", entries.join(","));
    [(json.len() as u64).to_le_bytes().to_vec(), json.into_bytes(), data].concat()
}
