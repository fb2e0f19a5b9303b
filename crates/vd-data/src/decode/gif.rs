//! GIF: sizes, delays and composed frames.

use std::path::Path;

use ::gif::{DecodeOptions, Decoder};
use image::codecs::gif::GifDecoder;
use image::{AnimationDecoder, Frames, ImageDecoder};

use super::{Probe, check_claim, check_size, limits, open, rate, undecodable};
use crate::{Error, Result};

/// Height and width of the canvas, from the header.
pub(super) fn size(path: &Path) -> Result<(u32, u32)> {
    let decoder = Decoder::new(open(path)?).map_err(|e| damaged(path, "a GIF header", e))?;
    Ok((u32::from(decoder.height()), u32::from(decoder.width())))
}

/// Counts the frames and adds up their delays, skipping over the pixels.
pub(super) fn probe(path: &Path) -> Result<Probe> {
    let mut options = DecodeOptions::new();
    options.skip_frame_decoding(true);
    let mut decoder =
        options.read_info(open(path)?).map_err(|e| damaged(path, "a GIF header", e))?;
    let (mut f, mut hundredths) = (0, 0u64);
    loop {
        match decoder.next_frame_info() {
            Ok(Some(frame)) => {
                f += 1;
                hundredths += u64::from(frame.delay);
            }
            Ok(None) => break,
            Err(e) => return Err(damaged(path, &format!("an intact frame {f} or the end"), e)),
        }
    }
    if f == 0 {
        return Err(Error::damaged(path, "at least one frame", "none"));
    }
    Ok(Probe {
        f,
        h: usize::from(decoder.height()),
        w: usize::from(decoder.width()),
        fps: rate(f, hundredths as f64 / 100.0),
    })
}

/// The composed frames, with disposal and transparency applied.
pub(super) fn frames(path: &Path) -> Result<Frames<'static>> {
    let mut decoder =
        GifDecoder::new(open(path)?).map_err(|e| undecodable(path, "a GIF header", e))?;
    let (w, h) = decoder.dimensions();
    check_size(path, h, w)?;
    check_claim(path, h, w)?;
    decoder
        .set_limits(limits())
        .map_err(|e| undecodable(path, "a GIF of an acceptable size", e))?;
    Ok(decoder.into_frames())
}

fn damaged(path: &Path, expected: &str, error: ::gif::DecodingError) -> Error {
    match error {
        ::gif::DecodingError::Io(io) if io.kind() != std::io::ErrorKind::UnexpectedEof => {
            Error::read(path, io)
        }
        other => Error::damaged(path, expected, other.to_string()),
    }
}
