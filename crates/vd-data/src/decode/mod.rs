//! Decodes videos on disk to clips: GIF, APNG, WebP, PNG and JPEG, folders of frames, arrays, and,
//! through ffmpeg, MP4, MOV, WebM, MKV and AVI.

mod ffmpeg;
mod gif;
mod media;
mod media_arrays;
mod pixels;
mod png;
mod still;
pub(crate) mod webp;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

pub use ffmpeg::{Ffmpeg, films_through_libav};
pub use media::Media;
pub(crate) use media_arrays::Numbers;
pub(crate) use pixels::append as append_pixels;

use ffmpeg::Container;

use crate::array::{Kind, is_tensors};
use crate::clip::UNSTATED_FPS;
use crate::{Clip, Error, Result};

/// The largest height or width that is read, in pixels.
pub const MAX_SIDE: u32 = 16_384;

/// The maximum number of bytes that one frame may take while it is decoded.
const MAX_FRAME_BYTES: u64 = 512 << 20;

/// What the structure of a video reveals without its pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Probe {
    /// Number of frames.
    pub f: usize,
    /// Height in pixels.
    pub h: usize,
    /// Width in pixels.
    pub w: usize,
    /// Frames per second, on average; [`UNSTATED_FPS`] if the file states none.
    pub fps: f64,
}

/// The file formats, detected from their first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Gif,
    Png,
    Jpeg,
    WebP,
    /// Read through ffmpeg.
    Film(Container),
    /// Numbers: see [`crate::array`].
    Array(Kind),
}

/// Reads a whole video: a file, or a folder of frames (natural order of their names).
///
/// A file's type is detected from its first bytes, not from its name. Transparent pixels are
/// composited over black. With `channels` = 1 colours become their luma (Rec. 709).
///
/// # Errors
/// When it cannot be read, is damaged, is larger than the accepted limit, or `channels` is neither
/// 1 nor 3.
pub fn decode(path: &Path, channels: usize) -> Result<Clip> {
    Media::at(path)?.decode(channels)
}

/// Whether a name has the extension of a still image; an animated PNG or WebP has one too.
pub(crate) fn is_still_name(path: &Path) -> bool {
    matches!(extension(path).as_str(), "png" | "jpg" | "jpeg" | "webp")
}

/// Whether a name has the extension of an animation.
pub(crate) fn is_animation_name(path: &Path) -> bool {
    const ENDINGS: [&str; 8] = ["gif", "apng", "mp4", "m4v", "mov", "webm", "mkv", "avi"];
    ENDINGS.contains(&extension(path).as_str())
}

/// Whether a name has the extension of a file of arrays.
pub(crate) fn is_array_name(path: &Path) -> bool {
    matches!(extension(path).as_str(), "npy" | "npz" | "safetensors")
}

/// The kind of arrays that a file holds, from its first bytes; `None` for other files and
/// unreadable ones.
pub(crate) fn array_kind(path: &Path) -> Option<Kind> {
    match sniff(path) {
        Ok(Format::Array(kind)) => Some(kind),
        _ => None,
    }
}

/// Whether a file is an animation, whatever its name; false for an unreadable one.
pub(crate) fn moves(path: &Path) -> bool {
    match sniff(path) {
        Ok(Format::Gif | Format::Film(_) | Format::Array(_)) => true,
        Ok(Format::Png) => png::is_animated(path).unwrap_or(false),
        Ok(Format::WebP) => webp::is_animated(path).unwrap_or(false),
        Ok(Format::Jpeg) | Err(_) => false,
    }
}

/// The extension of a name in lower case, empty if it has none.
pub(crate) fn extension(path: &Path) -> String {
    path.extension().map(|end| end.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// Detects the format from the first bytes; names can be wrong.
fn sniff(path: &Path) -> Result<Format> {
    let mut head = Vec::with_capacity(16);
    open(path)?.take(16).read_to_end(&mut head).map_err(|e| Error::read(path, e))?;
    if head.starts_with(b"GIF87a") || head.starts_with(b"GIF89a") {
        Ok(Format::Gif)
    } else if head.starts_with(b"\x89PNG\r\n\x1a\n") {
        Ok(Format::Png)
    } else if head.starts_with(b"\xff\xd8\xff") {
        Ok(Format::Jpeg)
    } else if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP") {
        Ok(Format::WebP)
    } else if let Some(container) = Container::sniff(&head) {
        Ok(Format::Film(container))
    } else if head.starts_with(b"\x93NUMPY") {
        Ok(Format::Array(Kind::Npy))
    } else if head.starts_with(b"PK\x03\x04") {
        Ok(Format::Array(Kind::Npz))
    } else if is_tensors(&head, length(path)?) {
        Ok(Format::Array(Kind::Tensors))
    } else if head.is_empty() {
        Err(Error::damaged(path, "a GIF, PNG, JPEG, WebP, video or array", "an empty file"))
    } else {
        Err(Error::damaged(
            path,
            "the first bytes of a GIF, PNG, JPEG, WebP, MP4, MOV, WebM, MKV or AVI, or of an array (.npy, \
             .npz, .safetensors)",
            format!("\"{}\"", head.escape_ascii()),
        ))
    }
}

fn length(path: &Path) -> Result<u64> {
    Ok(path.metadata().map_err(|e| Error::read(path, e))?.len())
}

fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).map_err(|e| Error::read(path, e))?;
    Ok(BufReader::new(file))
}

/// The limits for the decoders of `image`.
fn limits() -> image::Limits {
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_FRAME_BYTES);
    limits
}

fn check_size(path: &Path, h: u32, w: u32) -> Result<()> {
    if h == 0 || w == 0 {
        return Err(Error::damaged(path, "a height and width of at least 1", format!("{h} x {w}")));
    }
    let bytes = u64::from(h).saturating_mul(u64::from(w)).saturating_mul(4);
    if h > MAX_SIDE || w > MAX_SIDE || bytes > MAX_FRAME_BYTES {
        return Err(Error::TooLarge {
            path: path.to_path_buf(),
            found: format!("frames of {h} x {w}"),
            limit: format!("{MAX_SIDE} per side and {MAX_FRAME_BYTES} bytes per frame"),
        });
    }
    Ok(())
}

/// Refuses a header that claims more pixels than its file can hold, before anything is allocated
/// for them.
///
/// Deflate expands one byte to at most 1032, and a byte holds at most eight pixels of a PNG; no
/// real GIF or JPEG comes near that ratio.
fn check_claim(path: &Path, h: u32, w: u32) -> Result<()> {
    const PIXELS_PER_BYTE: u64 = 1032 * 8;
    const ALWAYS: u64 = 1 << 16;
    let bytes = path.metadata().map_err(|e| Error::read(path, e))?.len();
    let most = bytes.saturating_mul(PIXELS_PER_BYTE).saturating_add(ALWAYS);
    if u64::from(h).saturating_mul(u64::from(w)) <= most {
        return Ok(());
    }
    let expected = format!("at most {most} pixels per frame, as a file of {bytes} bytes can hold");
    Err(Error::damaged(path, expected, format!("a header of {h} x {w}")))
}

/// Turns an error of `image` into one about the file.
fn undecodable(path: &Path, expected: &str, error: image::ImageError) -> Error {
    match error {
        image::ImageError::Limits(limit) => Error::TooLarge {
            path: path.to_path_buf(),
            found: limit.to_string(),
            limit: format!("{MAX_SIDE} per side and {MAX_FRAME_BYTES} bytes per frame"),
        },
        // an unexpected end is damage; other I/O errors do not concern the file's content
        image::ImageError::IoError(io) if io.kind() != std::io::ErrorKind::UnexpectedEof => {
            Error::read(path, io)
        }
        other => Error::damaged(path, expected, other.to_string()),
    }
}

fn single(h: u32, w: u32) -> Probe {
    Probe { f: 1, h: h as usize, w: w as usize, fps: UNSTATED_FPS }
}

/// Frames per second of `f` frames that last `seconds` in total; a file without delays states no
/// rate.
fn rate(f: usize, seconds: f64) -> f64 {
    if f > 0 && seconds > 0.0 { f as f64 / seconds } else { UNSTATED_FPS }
}
