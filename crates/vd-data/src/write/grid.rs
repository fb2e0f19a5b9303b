//! Arranges clips side by side in one clip, with their captions below them.

use image::{Rgb, RgbImage};

use super::text::{LETTER, draw, wrap};
use crate::clip::check_shape;
use crate::{Clip, Error, Result};

/// Pixels around and between clips.
const GAP: usize = 8;
/// A clip is enlarged by the smallest integer that makes it at least this wide, so that its caption
/// has room.
const WIDTH: usize = 128;
/// The distance between the tops of two lines, in pixels.
const LINE: usize = LETTER + 3;
/// The maximum number of caption lines shown.
const LINES: usize = 4;
const PAPER: Rgb<u8> = Rgb([244, 244, 240]);
const INK: Rgb<u8> = Rgb([24, 24, 28]);

/// One clip that shows all `clips`, row by row, each with its caption below it; a shorter one stays
/// on its last frame.
///
/// # Range
/// `columns` is clamped to [1, n].
/// # Errors
/// When there is no clip, when one is not valid, when their frames differ in size, or when the
/// result would take more than 2 GiB.
pub fn grid(clips: &[(Clip, String)], columns: usize) -> Result<Clip> {
    let Some((first, _)) = clips.first() else {
        return Err(Error::clip("at least one clip", "none"));
    };
    for (clip, _) in clips {
        clip.check()?;
        if (clip.h, clip.w) != (first.h, first.w) {
            let expected = format!("clips of {} x {} like the first", first.h, first.w);
            return Err(Error::clip(expected, format!("one of {} x {}", clip.h, clip.w)));
        }
    }
    let columns = columns.clamp(1, clips.len());
    let scale = WIDTH.div_ceil(first.w).max(1);
    let (h, w) = (first.h * scale, first.w * scale);
    let captions: Vec<Vec<String>> =
        clips.iter().map(|(_, text)| lines(text, w / LETTER)).collect();
    let text = captions.iter().map(Vec::len).max().unwrap_or(0) * LINE;
    let text = if text > 0 { text + GAP / 2 } else { 0 };
    let rows = clips.len().div_ceil(columns);
    let (height, width) = (rows * (h + text + GAP) + GAP, columns * (w + GAP) + GAP);
    let f = clips.iter().map(|(clip, _)| clip.f).max().unwrap_or(1);
    check_shape(f, [height, width], 3)?;
    let corner = |k: usize| [GAP + k / columns * (h + text + GAP), GAP + k % columns * (w + GAP)];
    let mut page = RgbImage::from_pixel(width as u32, height as u32, PAPER);
    for (k, caption) in captions.iter().enumerate() {
        let [y, x] = corner(k);
        for (at, line) in caption.iter().enumerate() {
            draw(&mut page, [x, y + h + GAP / 2 + at * LINE], 1, INK, line);
        }
    }
    let mut frames = Vec::with_capacity(f * height * width * 3);
    for index in 0..f {
        for (k, (clip, _)) in clips.iter().enumerate() {
            paste(&mut page, clip, index.min(clip.f - 1), corner(k), scale);
        }
        frames.extend_from_slice(page.as_raw());
    }
    Clip::new(frames, [f, height, width, 3], first.fps)
}

/// A caption in lines of at most `letters` letters; a long one is truncated.
fn lines(text: &str, letters: usize) -> Vec<String> {
    let mut lines = wrap(text, letters);
    if lines.len() > LINES {
        lines.truncate(LINES);
        if let Some(last) = lines.last_mut() {
            let kept = letters.saturating_sub(3).min(last.chars().count());
            *last = last.chars().take(kept).chain("...".chars()).collect();
        }
    }
    lines
}

fn paste(page: &mut RgbImage, clip: &Clip, index: usize, [top, left]: [usize; 2], scale: usize) {
    let frame = clip.frame(index);
    for y in 0..clip.h * scale {
        for x in 0..clip.w * scale {
            let at = ((y / scale) * clip.w + x / scale) * clip.c;
            let colour = [0, 1, 2].map(|k: usize| frame[at + k.min(clip.c - 1)]);
            page.put_pixel((left + x) as u32, (top + y) as u32, Rgb(colour));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn clip(f: usize, first: u8) -> Clip {
        let bytes = (0..f * 4).map(|k| first + k as u8).collect();
        Clip::new(bytes, [f, 2, 2, 1], 8.0).unwrap()
    }

    #[test]
    fn clips_are_enlarged_in_rows_and_rest_on_their_last_frame() {
        let clips = [
            (clip(2, 0), "one".to_owned()),
            (clip(1, 40), String::new()),
            (clip(2, 80), "a caption that needs two lines".to_owned()),
        ];
        let page = grid(&clips, 2).unwrap();
        let text = 2 * LINE + GAP / 2;
        assert_eq!([page.f, page.c], [2, 3]);
        assert_eq!([page.h, page.w], [2 * (128 + text + 8) + 8, 2 * (128 + 8) + 8]);
        let pixel = |f: usize, y: usize, x: usize| page.frame(f)[(y * page.w + x) * 3];
        // the second frame, its pixel in the second row and column
        assert_eq!(pixel(1, 8 + 127, 8 + 127), 7);
        assert_eq!(pixel(1, 8 + 64, 8 + 63), 6);
        assert_eq!((pixel(0, 8, 144), pixel(1, 8, 144)), (40, 40));
        assert_eq!(pixel(1, 16 + 128 + text, 8), 84);
        // letters below the first clip, none below the second
        let inked = |x: usize| {
            let below = 8 + 128..16 + 128 + text;
            below.flat_map(|y| (x..x + 128).map(move |x| (y, x))).any(|(y, x)| pixel(0, y, x) == 24)
        };
        assert!(inked(8) && !inked(144));
    }

    #[test]
    fn what_makes_no_picture_is_refused() {
        assert!(grid(&[], 1).unwrap_err().to_string().contains("at least one clip"));
        let other = Clip::new(vec![0; 6], [1, 2, 3, 1], 8.0).unwrap();
        let pair = [(clip(1, 0), String::new()), (other, String::new())];
        assert!(grid(&pair, 1).unwrap_err().to_string().contains("one of 2 x 3"));
        assert_eq!(lines("a b c d e f", 1), ["a", "b", "c", "..."]);
    }
}
