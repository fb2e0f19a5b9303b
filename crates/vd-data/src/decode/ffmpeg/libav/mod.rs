//! Films decoded in this process, by the libraries behind ffmpeg and ffprobe.
//!
//! The steps are those of the programs, so that frames, rates and errors are the same. Input that
//! would crash the libraries is refused first: a stream without a size ends the process in the
//! scaler.

mod film;
mod hidden;
mod picture;
#[cfg(test)]
mod tests;
mod turn;

use std::path::Path;

use ffmpeg_next::frame::Video;
use image::RgbImage;

use super::index::{APART, Start};
use super::listing::Listing;
use super::{Container, Part, whole};
use crate::{Error, Result};
use film::Film;
use hidden::Hidden;
use picture::Pictures;

/// Packets and stream of a complete film.
pub(super) fn list(path: &Path, container: Container) -> Result<Listing> {
    match container {
        Container::Matroska => whole::matroska(path)?,
        Container::Avi => whole::avi(path)?,
        // truncation is noticed when packets are read
        Container::Mov => {}
    }
    let mut film = Film::open(path, container)?;
    let mut hidden = match container {
        Container::Mov => Some(Hidden::new(&film).map_err(|e| failed(path, e))?),
        Container::Matroska | Container::Avi => None,
    };
    let mut packets = Vec::new();
    while let Some(mut packet) = film.packet()? {
        let duration = film.seconds(packet.duration());
        packets.push((packet.pts().map(|pts| film.seconds(pts)), duration, packet.is_key()));
        if let Some(hidden) = &mut hidden {
            hidden.take(&mut packet).map_err(|e| failed(path, e))?;
        }
    }
    let hidden = hidden.map_or_else(|| Ok(Vec::new()), Hidden::told);
    let hidden = hidden.map_err(|e| failed(path, e))?;
    let mut listing = Listing { stream: Some(film.about()), ..Listing::default() };
    for (index, (time, duration, key)) in packets.into_iter().enumerate() {
        if !hidden.get(index).is_some_and(|hidden| *hidden) {
            listing.packet(path, time, Some(duration), key)?;
        }
    }
    if listing.untimed {
        listing.counted = Some(count(path, container)?);
    }
    Ok(listing)
}

/// Counts the frames of a film whose packets have no presentation times.
fn count(path: &Path, container: Container) -> Result<usize> {
    let mut film = Film::open(path, container)?;
    let (mut frames, mut frame) = (0, Video::empty());
    while film.frame(&mut frame)? {
        frames += 1;
    }
    Ok(frames)
}

/// Decodes from `start` on, and passes each wanted frame to `visit`.
pub(super) fn read(
    part: &Part<'_>,
    start: Start,
    visit: &mut dyn FnMut(RgbImage) -> Result<()>,
) -> Result<()> {
    let Part { path, container, index, wanted } = *part;
    let Some(&last) = wanted.last() else { return Ok(()) };
    let mut film = Film::open(path, container)?;
    let mut pictures = Pictures::new(film.turn());
    let mut number = match start.at {
        None => 0,
        Some(at) => {
            film.seek(at)?;
            wanted[0] - start.skip
        }
    };
    // before the target there may be frames whose references are missing
    let mut aimed = start.at;
    let mut frame = Video::empty();
    while number <= last && film.frame(&mut frame)? {
        if let Some(at) = aimed {
            let time = film.time(&frame).unwrap_or(f64::NAN);
            if time < at {
                continue;
            }
            let stated = index.times.get(number).copied().unwrap_or(f64::NAN);
            if (time - stated).abs() >= APART || time.is_nan() || stated.is_nan() {
                let expected = format!("frame {number} at {stated} s, as its packets state");
                return Err(Error::damaged(path, expected, format!("one at {time} s")));
            }
            aimed = None;
        }
        if wanted.binary_search(&number).is_ok() {
            let image = pictures.rgb(&mut frame).map_err(|e| film.damaged(e))?;
            if image.dimensions() != (index.w, index.h) {
                let expected = format!("frames of {} x {} as stated", index.h, index.w);
                let found = format!("one of {} x {}", image.height(), image.width());
                return Err(Error::damaged(path, expected, found));
            }
            visit(image)?;
        }
        number += 1;
    }
    if number <= last {
        let expected = format!("{} frames, as its packets state", last + 1);
        return Err(Error::damaged(path, expected, format!("{number}")));
    }
    Ok(())
}

/// An error of the libraries that does not depend on the file.
fn failed(path: &Path, error: ffmpeg_next::Error) -> Error {
    Error::Ffmpeg { path: path.to_path_buf(), detail: format!("(libav): {error}") }
}
