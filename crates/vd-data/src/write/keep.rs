//! GIFs of clips in which some pixels must keep their exact colour.

use std::collections::BTreeSet;
use std::path::Path;

use super::gif::{check_sides, delays, encode};
use super::palette::{self, Indexed};
use super::write_file;
use crate::{Clip, Error, Result};

/// The number of colours that a GIF can hold per frame.
const COLOURS: usize = 256;

/// Writes a clip like [`write_gif`](crate::write_gif), with the pixels in `known` kept exactly.
///
/// If the clip has more than 256 colours, each frame gets its own palette: the colours of its known
/// pixels, and the best approximation of the others.
///
/// Returns false if some frame has more than 256 known colours: its known pixels are then rounded
/// like the others.
///
/// # Shapes
/// `known`: f h w, row by row
/// # Errors
/// As [`write_gif`](crate::write_gif); `known` of a different length.
pub fn write_gif_keeping(path: &Path, clip: &Clip, known: &[bool]) -> Result<bool> {
    clip.check()?;
    let pixels = clip.h * clip.w;
    if known.len() != clip.f * pixels {
        let expected = format!("{} flags, one for each pixel", clip.f * pixels);
        return Err(Error::clip(expected, format!("{}", known.len())));
    }
    let sides = check_sides(clip)?;
    let (mut frames, mut exact) = (Vec::new(), true);
    match palette::without_loss(clip) {
        Some(whole) => frames.push(whole),
        None => {
            for (index, known) in known.chunks_exact(pixels).enumerate() {
                let (frame, kept) = frame(&clip.pick(&[index]), known)?;
                frames.push(frame);
                exact &= kept;
            }
        }
    }
    let bytes = encode(&frames, sides, &delays(clip.f, clip.fps))
        .map_err(|e| Error::write(path, std::io::Error::other(e)))?;
    write_file(path, &bytes)?;
    Ok(exact)
}

/// One frame with its palette, and whether its known pixels were kept exactly.
fn frame(frame: &Clip, known: &[bool]) -> Result<(Indexed, bool)> {
    if let Some(indexed) = palette::without_loss(frame) {
        return Ok((indexed, true));
    }
    let pixel = |bytes: &[u8]| [bytes[0], bytes[1], bytes[2]];
    let colours: Vec<[u8; 3]> = frame.frames.chunks_exact(3).map(pixel).collect();
    let kept: BTreeSet<[u8; 3]> =
        colours.iter().zip(known).filter_map(|(colour, known)| known.then_some(*colour)).collect();
    if kept.len() > COLOURS {
        return Ok((palette::nearest(frame, COLOURS)?, false));
    }
    let mut palette: Vec<[u8; 3]> = kept.into_iter().collect();
    if palette.len() < COLOURS {
        let others: Vec<u8> = colours
            .iter()
            .zip(known)
            .filter(|(_, known)| !**known)
            .flat_map(|(colour, _)| *colour)
            .collect();
        let count = others.len() / 3;
        let others = Clip::new(others, [1, 1, count, 3], frame.fps)?;
        palette.extend(palette::nearest(&others, COLOURS - palette.len())?.palette);
    }
    let pixels = colours.iter().map(|colour| closest(&palette, *colour)).collect();
    Ok((Indexed { palette, pixels }, true))
}

/// The index of the nearest colour.
fn closest(palette: &[[u8; 3]], colour: [u8; 3]) -> u8 {
    let far = |other: &[u8; 3]| -> u32 {
        other.iter().zip(colour).map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum()
    };
    let places = 0..=u8::MAX;
    palette.iter().zip(places).min_by_key(|(other, _)| far(other)).map_or(0, |(_, place)| place)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    /// Two frames of 20 x 20 random colours, except for known pixels, which have one of `few`
    /// colours.
    fn noise(few: usize) -> (Clip, Vec<bool>) {
        let mut stream = Stream::new(Purpose::Sample, few as u64, 0, 0);
        let known: Vec<bool> = (0..2 * 400).map(|_| stream.below(2) == 0).collect();
        let bytes = known.iter().flat_map(|known| {
            let colour = [0; 3].map(|_: u8| stream.below(256) as u8);
            let odd = stream.below(few);
            if *known { [odd as u8, (odd / 2) as u8, 200] } else { colour }
        });
        (Clip::new(bytes.collect(), [2, 20, 20, 3], 10.0).unwrap(), known)
    }

    fn back(clip: &Clip, known: &[bool]) -> (Clip, bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gif");
        let exact = write_gif_keeping(&path, clip, known).unwrap();
        (crate::decode(&path, clip.c).unwrap(), exact)
    }

    #[test]
    fn known_pixels_come_back_beside_any_others() {
        for few in [1, 40, 250] {
            let (clip, known) = noise(few);
            let (found, exact) = back(&clip, &known);
            assert!(exact);
            let pairs = clip.frames.chunks_exact(3).zip(found.frames.chunks_exact(3));
            for ((wanted, found), known) in pairs.zip(&known) {
                assert!(!known || wanted == found);
            }
            // The others are approximated, not replaced by arbitrary colours of the palette.
            let off = clip.frames.iter().zip(&found.frames).map(|(a, b)| f64::from(a.abs_diff(*b)));
            assert!(off.sum::<f64>() / (clip.frames.len() as f64) < 12.0);
        }
    }

    #[test]
    fn more_known_colours_than_a_palette_has_are_told() {
        let (clip, _) = noise(250);
        let (found, exact) = back(&clip, &[true; 800]);
        assert!(!exact && found != clip);
        // Grey is never rounded.
        let grey = Clip::new(clip.frames.clone(), [6, 20, 20, 1], 10.0).unwrap();
        assert_eq!(back(&grey, &[true; 2400]), (grey, true));
        let error = write_gif_keeping(Path::new("a.gif"), &clip, &[true; 3]).unwrap_err();
        assert!(error.to_string().contains("800 flags"), "{error}");
    }
}
