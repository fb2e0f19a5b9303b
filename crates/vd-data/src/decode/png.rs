//! PNG and APNG: sizes and delays from the chunks, composed frames.

use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use image::codecs::png::PngDecoder;
use image::{AnimationDecoder, Frames, ImageDecoder};

use super::{Probe, check_claim, check_size, limits, open, rate, single, undecodable};
use crate::{Error, Result};

/// The chunks that matter here.
enum Chunk {
    /// acTL: the image is animated.
    Animation,
    /// fcTL: one frame with its delay in seconds.
    Frame(f64),
    /// IDAT: pixels.
    Data,
    /// IEND.
    End,
    /// Any other.
    Other,
}

/// Height and width, from the header.
pub(super) fn size(path: &Path) -> Result<(u32, u32)> {
    let mut head = [0; 24];
    open(path)?.read_exact(&mut head).map_err(|e| cut(path, e))?;
    if &head[12..16] != b"IHDR" {
        return Err(Error::damaged(
            path,
            "the chunk IHDR first",
            format!("\"{}\"", head[12..16].escape_ascii()),
        ));
    }
    Ok((big_endian(&head[20..24]), big_endian(&head[16..20])))
}

/// Whether there is an acTL chunk before the first pixels, which makes a PNG an animation.
pub(super) fn is_animated(path: &Path) -> Result<bool> {
    let mut reader = at_first_chunk(path)?;
    loop {
        match next_chunk(path, &mut reader)? {
            Chunk::Animation => return Ok(true),
            Chunk::Data | Chunk::End => return Ok(false),
            _ => {}
        }
    }
}

/// Counts the frames and adds up their delays, chunk by chunk up to the end.
pub(super) fn probe(path: &Path) -> Result<Probe> {
    let (h, w) = size(path)?;
    let mut reader = at_first_chunk(path)?;
    let (mut animated, mut f, mut seconds) = (false, 0, 0.0);
    loop {
        match next_chunk(path, &mut reader)? {
            Chunk::Animation => animated = true,
            Chunk::Frame(delay) => {
                f += 1;
                seconds += delay;
            }
            Chunk::End => break,
            Chunk::Data | Chunk::Other => {}
        }
    }
    if !animated {
        return Ok(single(h, w));
    }
    if f == 0 {
        return Err(Error::damaged(path, "at least one frame", "none"));
    }
    Ok(Probe { f, fps: rate(f, seconds), ..single(h, w) })
}

/// The composed frames, with blending and disposal applied.
pub(super) fn frames(path: &Path) -> Result<Frames<'static>> {
    let decoder = PngDecoder::with_limits(open(path)?, limits())
        .map_err(|e| undecodable(path, "a PNG header", e))?;
    let (w, h) = decoder.dimensions();
    check_size(path, h, w)?;
    check_claim(path, h, w)?;
    let decoder = decoder.apng().map_err(|e| undecodable(path, "an animated PNG", e))?;
    Ok(decoder.into_frames())
}

fn at_first_chunk(path: &Path) -> Result<BufReader<std::fs::File>> {
    let mut reader = open(path)?;
    reader.seek(SeekFrom::Start(8)).map_err(|e| Error::read(path, e))?;
    Ok(reader)
}

/// Reads the head of a chunk and skips the rest of it.
fn next_chunk(path: &Path, reader: &mut BufReader<std::fs::File>) -> Result<Chunk> {
    let mut head = [0; 8];
    reader.read_exact(&mut head).map_err(|e| cut(path, e))?;
    let mut rest = i64::from(big_endian(&head[..4])) + 4; // the checksum follows the data
    let chunk = match &head[4..] {
        b"acTL" => Chunk::Animation,
        b"fcTL" => {
            let mut control = [0; 24];
            reader.read_exact(&mut control).map_err(|e| cut(path, e))?;
            rest -= 24;
            let [numerator, denominator] =
                [20, 22].map(|at| f64::from(u16::from_be_bytes([control[at], control[at + 1]])));
            // the format's own rule: a denominator of 0 means hundredths
            let per_second = if denominator == 0.0 { 100.0 } else { denominator };
            Chunk::Frame(numerator / per_second)
        }
        b"IDAT" => Chunk::Data,
        b"IEND" => Chunk::End,
        name if name.iter().all(u8::is_ascii_alphabetic) => Chunk::Other,
        name => {
            return Err(Error::damaged(
                path,
                "the name of a PNG chunk",
                format!("\"{}\"", name.escape_ascii()),
            ));
        }
    };
    reader.seek_relative(rest).map_err(|e| Error::read(path, e))?;
    Ok(chunk)
}

fn cut(path: &Path, error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        Error::damaged(path, "a PNG up to its IEND chunk", "the file ends before")
    } else {
        Error::read(path, error)
    }
}

fn big_endian(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |n, &byte| (n << 8) | u32::from(byte))
}
