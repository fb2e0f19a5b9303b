//! Contact sheets: clips as rows of enlarged frames beside their names.

use std::io::Cursor;
use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};

use super::text::{LETTER, draw, wrap};
use super::write_file;
use crate::{Clip, Error, Result};

/// A row of a contact sheet.
#[derive(Debug, Clone)]
pub enum SheetRow<'a> {
    /// A line of text above the rows that follow.
    Heading(String),
    /// A clip with its name to the left.
    Clip {
        /// The text beside the frames.
        label: String,
        /// The frames.
        clip: &'a Clip,
    },
}

/// The enlargement of letters.
const TEXT: usize = 2;
/// Pixels between frames.
const GAP: usize = 4;
/// Pixels around everything.
const MARGIN: usize = 12;
/// The longest line beside the frames, in letters.
const LABEL: usize = 18;
/// The maximum side of a sheet in pixels.
const MAX_SHEET: usize = 32_768;
const PAPER: Rgb<u8> = Rgb([244, 244, 240]);
const INK: Rgb<u8> = Rgb([24, 24, 28]);

/// Draws clips as rows of at most `max_frames` frames each, evenly spaced and including the first
/// and the last, every pixel `scale` pixels wide.
///
/// # Errors
/// When a number is 0, a clip is not valid, or the sheet would exceed 32768 pixels per side.
pub fn contact_sheet(rows: &[SheetRow<'_>], scale: usize, max_frames: usize) -> Result<RgbImage> {
    if scale == 0 || max_frames == 0 || rows.is_empty() {
        return Err(Error::clip(
            "at least one row, one frame and a scale of 1",
            format!("{} rows, {max_frames} frames, scale {scale}", rows.len()),
        ));
    }
    let left = MARGIN + label_letters(rows) * LETTER * TEXT + MARGIN;
    let (mut w, mut h) = (left, MARGIN);
    for row in rows {
        let (row_h, row_w) = row.size(scale, max_frames)?;
        w = match row {
            SheetRow::Heading(_) => w.max(row_w.saturating_add(2 * MARGIN)),
            SheetRow::Clip { .. } => w.max(row_w.saturating_add(left + MARGIN)),
        };
        h = h.saturating_add(row_h).saturating_add(GAP);
    }
    h = h.saturating_add(MARGIN);
    if w > MAX_SHEET || h > MAX_SHEET {
        return Err(Error::clip(
            format!("a sheet of at most {MAX_SHEET} pixels per side"),
            format!("{h} x {w}; take fewer rows or frames, or a smaller scale"),
        ));
    }
    let mut sheet = RgbImage::from_pixel(w as u32, h as u32, PAPER);
    let mut top = MARGIN;
    for row in rows {
        row.draw(&mut sheet, [left, top], scale, max_frames);
        top += row.size(scale, max_frames)?.0 + GAP;
    }
    Ok(sheet)
}

/// Writes a [`contact_sheet`] as PNG.
///
/// # Errors
/// As [`contact_sheet`]; also when the file cannot be written.
pub fn write_contact_sheet(
    path: &Path,
    rows: &[SheetRow<'_>],
    scale: usize,
    max_frames: usize,
) -> Result<()> {
    let sheet = contact_sheet(rows, scale, max_frames)?;
    let mut bytes = Cursor::new(Vec::new());
    sheet
        .write_to(&mut bytes, ImageFormat::Png)
        .map_err(|e| Error::write(path, std::io::Error::other(e)))?;
    write_file(path, bytes.get_ref())
}

impl SheetRow<'_> {
    /// Height and width in pixels, without labels.
    fn size(&self, scale: usize, max_frames: usize) -> Result<(usize, usize)> {
        match self {
            Self::Heading(text) => {
                Ok((2 * LETTER * TEXT, text.chars().count().saturating_mul(LETTER * TEXT)))
            }
            Self::Clip { label, clip } => {
                clip.check()?;
                let shown = clip.f.min(max_frames);
                let lines = wrap(label, LABEL).len() * line_height();
                let wide = clip.w.saturating_mul(scale).saturating_add(GAP);
                Ok((clip.h.saturating_mul(scale).max(lines), wide.saturating_mul(shown)))
            }
        }
    }

    fn draw(&self, sheet: &mut RgbImage, [left, top]: [usize; 2], scale: usize, most: usize) {
        match self {
            Self::Heading(text) => {
                draw(sheet, [MARGIN, top + LETTER * TEXT / 2], TEXT, INK, text);
            }
            Self::Clip { label, clip } => {
                let lines = wrap(label, LABEL);
                let spare = (clip.h * scale).saturating_sub(lines.len() * line_height());
                for (k, line) in lines.iter().enumerate() {
                    let y = top + spare / 2 + k * line_height();
                    draw(sheet, [MARGIN, y], TEXT, INK, line);
                }
                for (k, index) in evenly(clip.f, most).into_iter().enumerate() {
                    let x = left + k * (clip.w * scale + GAP);
                    paste(sheet, clip, index, [x, top], scale);
                }
            }
        }
    }
}

fn line_height() -> usize {
    LETTER * TEXT + 4
}

/// The longest line of all labels, in letters.
fn label_letters(rows: &[SheetRow<'_>]) -> usize {
    rows.iter()
        .flat_map(|row| match row {
            SheetRow::Heading(_) => Vec::new(),
            SheetRow::Clip { label, .. } => wrap(label, LABEL),
        })
        .map(|line| line.chars().count())
        .max()
        .unwrap_or(0)
}

/// At most `most` of 0 .. f, evenly spaced, including the first and the last.
pub(super) fn evenly(f: usize, most: usize) -> Vec<usize> {
    if f <= most {
        return (0..f).collect();
    }
    let gaps = most.saturating_sub(1).max(1);
    (0..most).map(|k| k * (f - 1) / gaps).collect()
}

fn paste(sheet: &mut RgbImage, clip: &Clip, index: usize, [x, y]: [usize; 2], scale: usize) {
    let frame = clip.frame(index);
    for row in 0..clip.h * scale {
        for column in 0..clip.w * scale {
            let at = ((row / scale) * clip.w + column / scale) * clip.c;
            // one channel: all three are the same byte
            let colour = [0, 1, 2].map(|k| frame[at + k.min(clip.c - 1)]);
            sheet.put_pixel((x + column) as u32, (y + row) as u32, Rgb(colour));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn picked_frames_rise_and_hold_both_ends(f in 1usize..100, most in 2usize..20) {
            let picked = evenly(f, most);
            prop_assert_eq!(picked.len(), f.min(most));
            prop_assert!(picked.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert_eq!((picked[0], *picked.last().unwrap()), (0, f - 1));
        }
    }

    #[test]
    fn frames_are_enlarged_exactly() {
        let clip = Clip::new((0..2 * 2 * 3 * 3).collect(), [2, 2, 3, 3], 8.0).unwrap();
        let rows = [
            SheetRow::Heading("real".to_owned()),
            SheetRow::Clip { label: "ab".to_owned(), clip: &clip },
        ];
        let sheet = contact_sheet(&rows, 5, 8).unwrap();
        // margin, two letters, margin; the last pixel of the last frame
        let left = 12 + 2 * 16 + 12 + (3 * 5 + 4) + 2 * 5;
        let top = 12 + 32 + 4 + 5;
        let last = [33, 34, 35];
        assert_eq!(sheet.get_pixel(left + 4, top + 4).0, last);
        assert_eq!(sheet.get_pixel(left, top).0, last);
        assert_eq!(sheet.get_pixel(left + 5, top).0, PAPER.0);
        assert_eq!(sheet.get_pixel(left - 1, top).0, [30, 31, 32]);
    }

    #[test]
    fn sheets_that_cannot_be_drawn_are_refused() {
        let clip = Clip::new(vec![0; 64 * 64], [1, 64, 64, 1], 8.0).unwrap();
        let row = SheetRow::Clip { label: String::new(), clip: &clip };
        assert!(contact_sheet(&[], 1, 1).is_err());
        assert!(contact_sheet(std::slice::from_ref(&row), 0, 1).is_err());
        assert!(contact_sheet(std::slice::from_ref(&row), 1, 0).is_err());
        assert!(contact_sheet(&[row], usize::MAX / 2, 1).is_err());
    }
}
