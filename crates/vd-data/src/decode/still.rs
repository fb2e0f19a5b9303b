//! Single images.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageFormat, ImageReader};

use super::{Format, check_claim, check_size, limits, open, undecodable, webp};
use crate::{Error, Result};

/// Height and width, from the header.
pub(super) fn size(path: &Path) -> Result<(u32, u32)> {
    let (w, h) = ImageReader::with_format(open(path)?, ImageFormat::Jpeg)
        .into_dimensions()
        .map_err(|e| undecodable(path, "a JPEG header", e))?;
    Ok((h, w))
}

/// Decodes the image.
pub(super) fn read(path: &Path, format: Format) -> Result<DynamicImage> {
    let (format, name) = match format {
        Format::Gif => (ImageFormat::Gif, "an intact GIF image"),
        Format::Png => (ImageFormat::Png, "an intact PNG image"),
        Format::Jpeg => (ImageFormat::Jpeg, "an intact JPEG image"),
        Format::WebP => return webp::still(path),
        Format::Film(container) => {
            let found = format!("a video, {}", container.name());
            return Err(Error::damaged(path, "a single image", found));
        }
        Format::Array(_) => return Err(Error::damaged(path, "a single image", "an array")),
    };
    let bytes = std::fs::read(path).map_err(|e| Error::read(path, e))?;
    // the decoder fills missing parts of a JPEG with grey
    if format == ImageFormat::Jpeg && !reaches_its_end(&bytes) {
        return Err(Error::damaged(path, "a JPEG up to its end marker", "the file ends before"));
    }
    let (w, h) = ImageReader::with_format(Cursor::new(&bytes), format)
        .into_dimensions()
        .map_err(|e| undecodable(path, name, e))?;
    check_size(path, h, w)?;
    check_claim(path, h, w)?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits());
    reader.decode().map_err(|e| undecodable(path, name, e))
}

/// Whether the markers of a JPEG lead to the end-of-image marker.
///
/// # Reference
/// ITU-T T.81, B.1.1.2 to B.1.1.4.
fn reaches_its_end(bytes: &[u8]) -> bool {
    const RESTART: std::ops::RangeInclusive<u8> = 0xd0..=0xd7;
    let mut at = 2; // behind the marker that begins the image
    while let Some(&[0xff, marker]) = bytes.get(at..at + 2) {
        match marker {
            0xd9 => return true,
            0xff => at += 1, // markers may be filled up from the left
            _ if marker == 0x01 || RESTART.contains(&marker) => at += 2,
            _ => {
                let Some(&[high, low]) = bytes.get(at + 2..at + 4) else {
                    return false;
                };
                at += 2 + usize::from(u16::from_be_bytes([high, low]));
                if marker == 0xda {
                    // entropy-coded data, in which 0xff occurs only before 0 and in restart markers
                    let rest = bytes.get(at..).unwrap_or_default();
                    let next = rest.windows(2).position(|pair| {
                        pair[0] == 0xff && pair[1] != 0 && !RESTART.contains(&pair[1])
                    });
                    at = next.map_or(bytes.len(), |skipped| at + skipped);
                }
            }
        }
    }
    false
}
