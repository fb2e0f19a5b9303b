//! Small letters for pictures: 8 x 8 pixels, enlarged by whole numbers.

use font8x8::legacy::{BASIC_LEGACY, LATIN_LEGACY};
use image::{Rgb, RgbImage};

/// Side of a letter before enlargement, in pixels.
pub(super) const LETTER: usize = 8;

/// Draws one line, cut off at the edge of the image; letters that the font lacks become '?'.
pub(super) fn draw(
    image: &mut RgbImage,
    [x, y]: [usize; 2],
    scale: usize,
    ink: Rgb<u8>,
    line: &str,
) {
    for (k, letter) in line.chars().enumerate() {
        for (row, bits) in glyph(letter).into_iter().enumerate() {
            for column in (0..LETTER).filter(|column| bits & (1 << column) != 0) {
                let left = x + (k * LETTER + column) * scale;
                let top = y + row * scale;
                for (dy, dx) in (0..scale * scale).map(|i| (i / scale, i % scale)) {
                    let at = ((left + dx) as u32, (top + dy) as u32);
                    if let Some(pixel) = image.get_pixel_mut_checked(at.0, at.1) {
                        *pixel = ink;
                    }
                }
            }
        }
    }
}

/// Breaks a text into lines of at most `width` letters, between words where possible.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines: Vec<String> = Vec::new();
    let mut room = 0;
    for word in text.split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for (k, piece) in letters.chunks(width).enumerate() {
            // the pieces of an overlong word each get a line of their own
            match lines.last_mut() {
                Some(line) if k == 0 && piece.len() < room => {
                    line.push(' ');
                    line.extend(piece);
                    room -= piece.len() + 1;
                }
                _ => {
                    lines.push(piece.iter().collect());
                    room = width - piece.len();
                }
            }
        }
    }
    lines
}

fn glyph(letter: char) -> [u8; LETTER] {
    let code = letter as usize;
    match code {
        0x20..=0x7e => BASIC_LEGACY[code],
        0xa0..=0xff => LATIN_LEGACY[code - 0xa0],
        _ => BASIC_LEGACY[usize::from(b'?')],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("two bursts, green then gold", 12), ["two bursts,", "green then", "gold"]);
        assert_eq!(wrap("a incomprehensible b", 6), ["a", "incomp", "rehens", "ible b"]);
        assert!(wrap("  ", 4).is_empty());
    }

    proptest! {
        #[test]
        fn no_line_is_too_long_and_no_letter_is_lost(text in "[a-c ]{0,60}", width in 1usize..12) {
            let lines = wrap(&text, width);
            prop_assert!(lines.iter().all(|line| line.chars().count() <= width));
            prop_assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""));
        }
    }
}
