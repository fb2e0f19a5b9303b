//! A contact sheet of a data set.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::preview_numbers::numbers_as_picture;
use super::sheet::{SheetRow, evenly, write_contact_sheet};
use crate::fit::fit;
use crate::folder::{BadFile, Entry, Folder};
use crate::inspect::spread_over;
use crate::{Clip, Error, Result};

/// Larger frames are shrunk to this, in pixels per side.
const LARGEST: usize = 128;
/// Smaller frames are enlarged by integer factors, up to about this.
const SMALLEST: usize = 96;
/// The longest name and the longest caption shown beside a clip, in letters.
const NAME: usize = 32;
const CAPTION: usize = 76;

/// The result of [`write_preview`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previewed {
    /// The number of clips on the sheet.
    pub shown: usize,
    /// The number of clips in the data set.
    pub clips: usize,
    /// Clips that were chosen but cannot be read.
    pub bad_files: Vec<BadFile>,
}

/// Draws `clips` clips, evenly spread over a data set, as rows of `frames` frames each, beside
/// their names, lengths and captions. Each channel of an array goes from black, its minimum in
/// these frames, to white; missing values are black too.
///
/// # Errors
/// As [`crate::contact_sheet`]; when none of the clips can be read, or the file cannot be written.
pub fn write_preview(
    path: &Path,
    folder: &Folder,
    clips: usize,
    frames: usize,
) -> Result<Previewed> {
    let entries = folder.entries();
    let (mut shown, mut bad_files) = (Vec::new(), Vec::new());
    for index in spread_over(entries.len(), clips) {
        let entry = &entries[index];
        match excerpt(entry, frames) {
            Ok(row) => shown.push(row),
            Err(error) => {
                let path = entry.media.path().to_path_buf();
                bad_files.push(BadFile { path, reason: error.to_string() });
            }
        }
    }
    let largest = shown.iter().map(|(_, clip)| clip.h.max(clip.w)).max();
    let Some(largest) = largest else {
        let first = bad_files.first().map_or("no clip", |bad| bad.reason.as_str());
        let detail = format!("none of the clips to show can be read, the first: {first}");
        return Err(Error::NoClips { folder: folder.root().to_path_buf(), detail });
    };
    let scale = (SMALLEST / largest).max(1);
    let name = folder.root().file_name().unwrap_or(folder.root().as_os_str()).to_string_lossy();
    let heading = format!("{}: {} of {} clips", plain(&name), shown.len(), entries.len());
    let mut rows = vec![SheetRow::Heading(heading)];
    rows.extend(shown.iter().map(|(label, clip)| SheetRow::Clip { label: label.clone(), clip }));
    write_contact_sheet(path, &rows, scale, frames)?;
    Ok(Previewed { shown: shown.len(), clips: entries.len(), bad_files })
}

/// Some frames of a clip at the displayed size, and the text beside them.
fn excerpt(entry: &Entry, frames: usize) -> Result<(String, Clip)> {
    let probe = entry.media.probe()?;
    let wanted = evenly(probe.f, frames);
    let clip = match entry.media.numbers() {
        Some(numbers) => {
            let clip = entry.media.decode_floats(numbers.channels, Some(&wanted), probe.fps)?;
            numbers_as_picture(&clip, LARGEST)?
        }
        None => small(entry.media.decode_frames(3, &wanted, probe.fps)?)?,
    };
    Ok((label(entry, probe.f, [probe.h, probe.w]), clip))
}

/// A clip shrunk to the displayed size if necessary.
fn small(clip: Clip) -> Result<Clip> {
    let side = clip.h.max(clip.w);
    if side > LARGEST {
        let less = |n: usize| (n * LARGEST / side).max(1);
        return fit(&clip, [less(clip.h), less(clip.w)], [0.5; 2]);
    }
    Ok(clip)
}

/// Name, length, size and caption; long ones are truncated.
fn label(entry: &Entry, f: usize, [h, w]: [usize; 2]) -> String {
    let name = plain(&entry.name.to_string_lossy());
    let letters = name.chars().count();
    let name = match letters > NAME {
        true => format!("..{}", name.chars().skip(letters - NAME + 2).collect::<String>()),
        false => name,
    };
    let caption = entry.caption.as_deref().map(plain).unwrap_or_default();
    let caption = match caption.char_indices().nth(CAPTION) {
        Some((at, _)) => format!("{}..", &caption[..at]),
        None => caption,
    };
    format!("{name} {f}f {h}x{w} {caption}")
}

/// A text without line breaks and invisible characters.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
