//! MP4, MOV, WebM, MKV and AVI, through the programs ffmpeg and ffprobe, or, with the feature
//! `libav`, through their libraries.
//!
//! Frames are counted and timed by their packets, once for each file; a clip from the middle then
//! costs one seek. Frames recovered from a damaged file are not used: reading it fails.

mod ask;
mod index;
#[cfg(feature = "libav")]
mod libav;
mod listing;
mod programs;
mod road;
mod tools;
mod whole;

use std::path::Path;

use image::{DynamicImage, RgbImage};

pub use tools::Ffmpeg;

use super::Probe;
use crate::clip::MAX_CLIP_BYTES;
use crate::{Error, Result};
use index::{Index, Start};
use road::Road;

/// The container formats of films, detected from their first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    /// MP4, MOV, M4V.
    Mov,
    /// WebM and MKV.
    Matroska,
    Avi,
}

impl Container {
    /// The container of a file with these first bytes, if it is one of these.
    pub(super) fn sniff(head: &[u8]) -> Option<Self> {
        const BOXES: [&[u8]; 6] = [b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"];
        if head.starts_with(b"\x1a\x45\xdf\xa3") {
            Some(Self::Matroska)
        } else if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"AVI ") {
            Some(Self::Avi)
        } else if head.get(4..8).is_some_and(|name| BOXES.contains(&name)) {
            Some(Self::Mov)
        } else {
            None
        }
    }

    /// Its common name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mov => "MP4 or MOV",
            Self::Matroska => "WebM or MKV",
            Self::Avi => "AVI",
        }
    }

    /// ffmpeg's name for it.
    fn demuxer(self) -> &'static str {
        match self {
            Self::Mov => "mov",
            Self::Matroska => "matroska",
            Self::Avi => "avi",
        }
    }
}

/// Whether MP4 and similar formats are read in this process (feature `libav`) instead of through
/// the programs of [`Ffmpeg`].
pub fn films_through_libav() -> bool {
    Road::chosen() != Road::Programs
}

/// Checks that the programs or libraries that the file needs are available.
pub(super) fn check(path: &Path, container: Container) -> Result<()> {
    Road::chosen().check(path, container)
}

/// Frames, size and rate, from the packets.
pub(super) fn probe(path: &Path, container: Container) -> Result<Probe> {
    let Index { f, h, w, fps, .. } = *index::of(path, container)?;
    Ok(Probe { f, h: h as usize, w: w as usize, fps })
}

/// Refuses a clip that would take too much memory, before any is allocated.
pub(super) fn check_clip(
    path: &Path,
    container: Container,
    wanted: Option<&[usize]>,
    channels: usize,
) -> Result<()> {
    let index = index::of(path, container)?;
    let (f, h, w) = (wanted.map_or(index.f, <[usize]>::len), index.h as usize, index.w as usize);
    let bytes = [h, w, channels].into_iter().try_fold(f, usize::checked_mul);
    if bytes.is_some_and(|bytes| bytes <= MAX_CLIP_BYTES) {
        return Ok(());
    }
    Err(Error::TooLarge {
        path: path.to_path_buf(),
        found: format!("{f} frames of {h} x {w}"),
        limit: format!("{MAX_CLIP_BYTES} bytes per clip; take fewer frames, or cut the video"),
    })
}

/// Passes the wanted frames (all, if `None`) to `visit`, in order.
pub(super) fn for_each_frame(
    path: &Path,
    container: Container,
    wanted: Option<&[usize]>,
    visit: &mut dyn FnMut(&Path, DynamicImage) -> Result<()>,
) -> Result<()> {
    let index = index::of(path, container)?;
    let all: Vec<usize>;
    let wanted = match wanted {
        Some(wanted) => &wanted[..wanted.partition_point(|frame| *frame < index.f)],
        None => {
            all = (0..index.f).collect();
            &all
        }
    };
    let part = Part { path, container, index: &index, wanted };
    part.read(Road::chosen(), &mut |image| visit(path, DynamicImage::ImageRgb8(image)))
}

/// The wanted frames of a film.
struct Part<'a> {
    path: &'a Path,
    container: Container,
    index: &'a Index,
    wanted: &'a [usize],
}

impl Part<'_> {
    /// Decodes from the nearest possible position, and passes each wanted frame to `visit`.
    fn read(&self, road: Road, visit: &mut dyn FnMut(RgbImage) -> Result<()>) -> Result<()> {
        let Some(&first) = self.wanted.first() else { return Ok(()) };
        let start = self.index.start(first);
        if start.at.is_some() {
            let mut images = Vec::new();
            let read = road.read(self, start, &mut |image| {
                images.push(image);
                Ok(())
            });
            match read {
                Ok(()) => return images.into_iter().try_for_each(visit),
                Err(error) if !error.is_bad_file() => return Err(error),
                // a file may mark frames as key frames that are not; decoding from the start still
                // works
                Err(_) => drop(images),
            }
        }
        road.read(self, Start { at: None, skip: first }, visit)
    }
}
