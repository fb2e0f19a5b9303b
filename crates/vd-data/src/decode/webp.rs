//! WebP: sizes and durations from the chunks, composed frames.

use std::fs::File;
use std::path::Path;

use image::{DynamicImage, RgbaImage};
use webp_animation::{ColorMode, Decoder, DecoderOptions};

use super::{MAX_FRAME_BYTES, Probe, check_size, open, rate, single};
use crate::{Error, Result};

/// The maximum number of pixels in a frame that the decoder accepts.
const MAX_PIXELS: u64 = 3840 * 2160;
/// The largest file that is read, in bytes.
const MAX_FILE: u64 = MAX_FRAME_BYTES;
/// Bytes up to the end of the header, for any kind of image.
const HEAD: usize = 30;
/// The flag of an animated image.
const MOVES: u8 = 2;

/// The content of the first chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    h: u32,
    w: u32,
    animated: bool,
}

/// Height and width, from the header.
pub(super) fn size(path: &Path) -> Result<(u32, u32)> {
    let Head { h, w, .. } = first_chunk(path)?;
    if u64::from(h) * u64::from(w) > MAX_PIXELS {
        return Err(Error::TooLarge {
            path: path.to_path_buf(),
            found: format!("a WebP of {h} x {w}"),
            limit: format!("{MAX_PIXELS} pixels"),
        });
    }
    Ok((h, w))
}

/// Whether the header says that the image is animated.
pub(super) fn is_animated(path: &Path) -> Result<bool> {
    Ok(first_chunk(path)?.animated)
}

/// Counts the frames and adds up their durations, chunk by chunk up to the end.
pub(super) fn probe(path: &Path) -> Result<Probe> {
    let (h, w) = size(path)?;
    if !is_animated(path)? {
        whole(path)?;
        return Ok(single(h, w));
    }
    let durations = durations(path, &whole(path)?)?;
    let seconds = durations.iter().map(|ms| f64::from(*ms)).sum::<f64>() / 1000.0;
    Ok(Probe { f: durations.len(), fps: rate(durations.len(), seconds), ..single(h, w) })
}

/// Passes the wanted frames (all, if `None`) to `visit` as composed, up to the last of them.
pub(super) fn for_each_frame(
    path: &Path,
    wanted: Option<&[usize]>,
    visit: &mut dyn FnMut(&Path, DynamicImage) -> Result<()>,
) -> Result<()> {
    let (h, w) = size(path)?;
    check_size(path, h, w)?;
    let bytes = whole(path)?;
    let f = if is_animated(path)? { durations(path, &bytes)?.len() } else { 1 };
    let last = match wanted {
        None => f - 1,
        Some(wanted) => match wanted.last() {
            Some(&last) => last.min(f - 1),
            None => return Ok(()),
        },
    };
    let options = DecoderOptions { use_threads: false, color_mode: ColorMode::Rgba };
    let mut frames = Decoder::new_with_options(&bytes, options)
        .map_err(|e| Error::damaged(path, "an intact WebP", e.to_string()))?
        .into_iter();
    for index in 0..=last {
        // after a frame that cannot be decoded there are no more
        let image = frames
            .next()
            .filter(|frame| frame.dimensions() == (w, h))
            .and_then(|frame| RgbaImage::from_raw(w, h, frame.data().to_vec()))
            .ok_or_else(|| {
                let expected = format!("an intact frame {index} of {f}");
                Error::damaged(path, expected, "one that cannot be decoded")
            })?;
        if wanted.is_none_or(|list| list.binary_search(&index).is_ok()) {
            visit(path, DynamicImage::ImageRgba8(image))?;
        }
    }
    Ok(())
}

/// The image of a still file, or the first frame of an animation.
pub(super) fn still(path: &Path) -> Result<DynamicImage> {
    let mut found = None;
    for_each_frame(path, Some(&[0]), &mut |_, image| {
        found = Some(image);
        Ok(())
    })?;
    found.ok_or_else(|| Error::damaged(path, "an image", "none"))
}

/// All bytes of the file, whose number is checked against the header.
fn whole(path: &Path) -> Result<Vec<u8>> {
    let length = File::open(path).and_then(|file| file.metadata()).map(|about| about.len());
    let length = length.map_err(|e| Error::read(path, e))?;
    if length > MAX_FILE {
        return Err(Error::TooLarge {
            path: path.to_path_buf(),
            found: format!("{length} bytes"),
            limit: format!("{MAX_FILE} bytes of a WebP"),
        });
    }
    let bytes = std::fs::read(path).map_err(|e| Error::read(path, e))?;
    let stated = bytes.get(4..8).map_or(0, little_endian) as usize + 8;
    if stated > bytes.len() {
        let expected = format!("{stated} bytes, as its header states");
        return Err(Error::damaged(path, expected, format!("{}", bytes.len())));
    }
    Ok(bytes)
}

fn first_chunk(path: &Path) -> Result<Head> {
    use std::io::Read;
    let mut head = Vec::with_capacity(HEAD);
    let limited = open(path)?.take(HEAD as u64).read_to_end(&mut head);
    limited.map_err(|e| Error::read(path, e))?;
    let cut = || Error::damaged(path, "a WebP header", "the file ends before");
    let data = head.get(20..HEAD).ok_or_else(cut)?;
    let name = &head[12..16];
    let two = |at: usize| u32::from(data[at]) | u32::from(data[at + 1]) << 8;
    let (h, w, animated) = match name {
        b"VP8X" => {
            let three = |at: usize| two(at) | u32::from(data[at + 2]) << 16;
            (three(7) + 1, three(4) + 1, data[0] & MOVES != 0)
        }
        b"VP8 " => (two(8) & 0x3fff, two(6) & 0x3fff, false),
        b"VP8L" => {
            let bits = little_endian(&data[1..5]);
            ((bits >> 14 & 0x3fff) + 1, (bits & 0x3fff) + 1, false)
        }
        other => {
            let found = format!("\"{}\"", other.escape_ascii());
            return Err(Error::damaged(path, "the chunk VP8X, VP8 or VP8L first", found));
        }
    };
    Ok(Head { h, w, animated })
}

/// The duration of each frame, in 1/1000 s.
fn durations(path: &Path, bytes: &[u8]) -> Result<Vec<u32>> {
    let mut durations = Vec::new();
    for (name, data) in chunks(bytes) {
        if name == b"ANMF" {
            let duration = data.get(12..15).ok_or_else(|| {
                Error::damaged(path, format!("a complete frame {}", durations.len()), "part of one")
            })?;
            durations.push(little_endian(duration));
        }
    }
    match durations.is_empty() {
        true => Err(Error::damaged(path, "at least one frame", "none")),
        false => Ok(durations),
    }
}

/// The complete chunks of a file with their data; stops at the first incomplete one.
pub(crate) fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = bytes.get(12..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = rest.get(4..8).map(little_endian)? as usize;
        let (name, data) = (rest.get(..4)?, rest.get(8..8usize.checked_add(length)?)?);
        // data of odd length are padded
        rest = rest.get(8 + length + length % 2..).unwrap_or_default();
        Some((name, data))
    })
}

fn little_endian(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |n, &byte| (n << 8) | u32::from(byte))
}
