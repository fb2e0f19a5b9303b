//! MP4, MOV, WebM, MKV and AVI, through the programs ffmpeg and ffprobe.
//!
//! Frames are counted and timed by their packets, once for each file; a clip out of the middle then
//! costs one seek. What a program makes of a damaged file is not passed on: it ends with an error.

mod ask;
mod index;
mod listing;
mod tools;

use std::io::Read;
use std::path::Path;

use image::{DynamicImage, RgbImage};

pub use tools::Ffmpeg;

use super::Probe;
use crate::clip::MAX_CLIP_BYTES;
use crate::{Error, Result};
use index::{Index, Start};

/// What films come in, told apart by their first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    /// MP4, MOV, M4V.
    Mov,
    /// WebM and MKV.
    Matroska,
    Avi,
}

impl Container {
    /// What a file is that begins so, if it is one of these.
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

    /// What people call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mov => "MP4 or MOV",
            Self::Matroska => "WebM or MKV",
            Self::Avi => "AVI",
        }
    }

    /// What ffmpeg calls it.
    fn demuxer(self) -> &'static str {
        match self {
            Self::Mov => "mov",
            Self::Matroska => "matroska",
            Self::Avi => "avi",
        }
    }
}

/// Whether the programs are there that the file needs.
pub(super) fn check(path: &Path, container: Container) -> Result<()> {
    ask::tools(path, container).map(drop)
}

/// Frames, size and rate, from the packets.
pub(super) fn probe(path: &Path, container: Container) -> Result<Probe> {
    let Index { f, h, w, fps, .. } = *index::of(path, container)?;
    Ok(Probe { f, h: h as usize, w: w as usize, fps })
}

/// Refuses a clip that would take too much memory, before there is any of it.
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
        limit: format!("{MAX_CLIP_BYTES} bytes a clip; take fewer frames, or cut the film"),
    })
}

/// Hands the wanted frames (all, if `None`) to `visit`, in order.
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
    let Some(&first) = wanted.first() else { return Ok(()) };
    let part = Part { path, container, index: &index, wanted };
    let mut show = |image| visit(path, DynamicImage::ImageRgb8(image));
    let start = index.start(first);
    if start.at.is_some() {
        let mut images = Vec::new();
        let read = part.read(start, &mut |image| {
            images.push(image);
            Ok(())
        });
        match read {
            Ok(()) => return images.into_iter().try_for_each(show),
            Err(error) if !error.is_bad_file() => return Err(error),
            // a file may claim key frames that are none: from its beginning it has no way to
            Err(_) => drop(images),
        }
    }
    part.read(Start { at: None, skip: first }, &mut show)
}

/// The frames of a film that are wanted.
struct Part<'a> {
    path: &'a Path,
    container: Container,
    index: &'a Index,
    wanted: &'a [usize],
}

impl Part<'_> {
    /// Decodes from `start` on, and hands each wanted frame to `visit`.
    fn read(&self, start: Start, visit: &mut dyn FnMut(RgbImage) -> Result<()>) -> Result<()> {
        let Self { path, container, index, wanted } = *self;
        let (first, last) = (wanted[0], wanted[wanted.len() - 1]);
        let step = spacing(wanted);
        let n = (last - first) / step + 1;
        let mut process = ask::decode(path, container, start, [step, n])?;
        let mut output = process.output().map_err(|e| ask::failed(path, &e))?;
        let bytes = index.h as usize * index.w as usize * 3;
        let mut came = 0;
        while came < n {
            let mut pixels = vec![0; bytes];
            let filled = fill(&mut output, &mut pixels).map_err(|e| ask::failed(path, &e))?;
            if filled < bytes {
                break;
            }
            let frame = first + came * step;
            came += 1;
            if wanted.binary_search(&frame).is_ok()
                && let Some(image) = RgbImage::from_raw(index.w, index.h, pixels)
            {
                visit(image)?;
            }
        }
        // more than was asked for has another size than was stated
        let more = fill(&mut output, &mut [0; 1]).map_err(|e| ask::failed(path, &e))?;
        drop(output);
        ask::finish(path, container, process)?;
        match (came == n, more) {
            (true, 0) => Ok(()),
            (true, _) => {
                let expected = format!("frames of {} x {} as stated", index.h, index.w);
                Err(Error::damaged(path, expected, "larger ones"))
            }
            _ => {
                let expected = format!("{n} frames from number {first} on, as its packets say");
                Err(Error::damaged(path, expected, format!("{came}")))
            }
        }
    }
}

/// How far wanted frames are apart; 1 where they are not evenly so.
fn spacing(wanted: &[usize]) -> usize {
    let mut steps = wanted.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
    match steps.next() {
        Some(step) if step > 0 && steps.all(|other| other == step) => step,
        _ => 1,
    }
}

/// Fills a buffer as far as there are bytes; how far.
fn fill(output: &mut impl Read, into: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match output.read(&mut into[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}
