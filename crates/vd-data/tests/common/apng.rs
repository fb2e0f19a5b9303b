//! PNGs and APNGs, assembled by hand.

use std::fs;
use std::path::Path;

use image::{ImageFormat, RgbImage};

/// A PNG chunk with its checksum.
pub(crate) fn chunk(out: &mut Vec<u8>, name: &[u8; 4], data: &[u8]) {
    out.extend((data.len() as u32).to_be_bytes());
    out.extend(name);
    out.extend(data);
    let mut crc = !0u32;
    for byte in name.iter().chain(data) {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
        }
    }
    out.extend((!crc).to_be_bytes());
}

/// The chunks of a PNG file.
pub(crate) fn chunks(png: &[u8]) -> Vec<([u8; 4], Vec<u8>)> {
    let (mut at, mut found) = (8, Vec::new());
    while at + 12 <= png.len() {
        let length = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        let name = png[at + 4..at + 8].try_into().unwrap();
        found.push((name, png[at + 8..at + 8 + length].to_vec()));
        at += 12 + length;
    }
    found
}

/// An animated PNG of complete frames with delays in 1/25 s, assembled by hand.
pub(crate) fn write_apng(path: &Path, frames: &[RgbImage], delay: u16) {
    let encoded: Vec<_> = frames
        .iter()
        .map(|frame| {
            let mut bytes = std::io::Cursor::new(Vec::new());
            frame.write_to(&mut bytes, ImageFormat::Png).unwrap();
            chunks(bytes.get_ref())
        })
        .collect();
    let data = |frame: usize| -> Vec<u8> {
        let parts = encoded[frame].iter().filter(|(name, _)| name == b"IDAT");
        parts.flat_map(|(_, data)| data.clone()).collect()
    };
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut out, b"IHDR", &encoded[0][0].1);
    let count = (frames.len() as u32).to_be_bytes();
    chunk(&mut out, b"acTL", &[&count[..], &[0; 4]].concat());
    let mut sequence = 0u32;
    for (k, frame) in frames.iter().enumerate() {
        let mut control = sequence.to_be_bytes().to_vec();
        control.extend(frame.width().to_be_bytes());
        control.extend(frame.height().to_be_bytes());
        control.extend([0; 8]);
        control.extend(delay.to_be_bytes());
        control.extend(25u16.to_be_bytes());
        control.extend([0, 0]);
        chunk(&mut out, b"fcTL", &control);
        sequence += 1;
        if k == 0 {
            chunk(&mut out, b"IDAT", &data(0));
        } else {
            chunk(&mut out, b"fdAT", &[&sequence.to_be_bytes()[..], &data(k)].concat());
            sequence += 1;
        }
    }
    chunk(&mut out, b"IEND", &[]);
    fs::write(path, out).unwrap();
}
