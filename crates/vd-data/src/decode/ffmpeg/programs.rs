//! Films read by the programs ffmpeg and ffprobe.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use image::RgbImage;

use super::index::{Start, no_stream};
use super::listing::Listing;
use super::{Container, Part, ask, whole};
use crate::{Error, Result};

/// What ffprobe reports about a complete film.
pub(super) fn list(path: &Path, container: Container) -> Result<Listing> {
    let mut listing = Listing::default();
    let fields = "packet=pts_time,duration_time,flags:\
                  stream=codec_type,width,height,avg_frame_rate:stream_side_data=rotation";
    let complaints = lines(path, container, fields, &mut |line| listing.line(path, line))?;
    if listing.stream.is_none() {
        return Err(no_stream(path));
    }
    if !complaints.trim().is_empty() {
        // It exits successfully if a file is truncated, and some of its messages are trivial.
        ask::walk(path, container)?;
        ask::check_whole(path, container, &complaints)?;
    }
    if container == Container::Avi {
        whole::avi(path)?;
    }
    if listing.untimed {
        let mut frames = 0;
        lines(path, container, "frame=key_frame", &mut |line| {
            frames += usize::from(line.starts_with("frame|"));
            Ok(())
        })?;
        listing.counted = Some(frames);
    }
    Ok(listing)
}

/// Passes ffprobe's output to `take`, line by line; returns its error output.
fn lines(
    path: &Path,
    container: Container,
    fields: &str,
    take: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<String> {
    let mut process = ask::probe(path, container, fields)?;
    let output = process.output().map_err(|e| ask::failed(path, &e))?;
    for line in BufReader::new(output).lines() {
        take(&line.map_err(|e| ask::failed(path, &e))?)?;
    }
    ask::finish(path, container, process)
}

/// Decodes from `start` on, and passes each wanted frame to `visit`.
pub(super) fn read(
    part: &Part<'_>,
    start: Start,
    visit: &mut dyn FnMut(RgbImage) -> Result<()>,
) -> Result<()> {
    let Part { path, container, index, wanted } = *part;
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
    // more output than requested means that frames have another size than stated
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
            let expected = format!("{n} frames from number {first} on, as its packets state");
            Err(Error::damaged(path, expected, format!("{came}")))
        }
    }
}

/// The distance between wanted frames; 1 if they are not evenly spaced.
fn spacing(wanted: &[usize]) -> usize {
    let mut steps = wanted.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
    match steps.next() {
        Some(step) if step > 0 && steps.all(|other| other == step) => step,
        _ => 1,
    }
}

/// Fills a buffer as far as there are bytes, and returns how many.
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
