//! The 256 colours of a clip.

use std::collections::BTreeSet;

use quantette::deps::palette::Srgb;
use quantette::deps::palette::cast::ComponentsAs;
use quantette::{ImageRef, PaletteSize, Pipeline, QuantizeMethod};

use crate::{Clip, Error, Result};

/// A palette of at most 256 colours, and the index of every pixel of all frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Indexed {
    /// Red, green, blue of each colour.
    pub(super) palette: Vec<[u8; 3]>,
    /// One number per pixel: f h w.
    pub(super) pixels: Vec<u8>,
}

/// One palette for all frames: exact if 256 colours suffice, else k-means in Oklab, without
/// dithering.
pub(super) fn index(clip: &Clip) -> Result<Indexed> {
    without_loss(clip).map_or_else(|| nearest(clip, 256), Ok)
}

/// Every colour exactly, if 256 suffice.
pub(super) fn without_loss(clip: &Clip) -> Option<Indexed> {
    if clip.c == 1 {
        let palette = (0..=255).map(|grey| [grey; 3]).collect();
        return Some(Indexed { palette, pixels: clip.frames.clone() });
    }
    exact(clip)
}

fn exact(clip: &Clip) -> Option<Indexed> {
    let mut colours = BTreeSet::new();
    for pixel in clip.frames.chunks_exact(3) {
        colours.insert([pixel[0], pixel[1], pixel[2]]);
        if colours.len() > 256 {
            return None;
        }
    }
    let palette: Vec<[u8; 3]> = colours.into_iter().collect();
    let pixels = clip
        .frames
        .chunks_exact(3)
        .filter_map(|pixel| {
            let colour = [pixel[0], pixel[1], pixel[2]];
            palette.binary_search(&colour).ok().map(|at| at as u8)
        })
        .collect();
    Some(Indexed { palette, pixels })
}

/// The best palette of at most `most` colours for a clip, from 1 to 256.
pub(super) fn nearest(clip: &Clip, most: usize) -> Result<Indexed> {
    let most = u16::try_from(most).ok().and_then(|most| PaletteSize::try_from(most).ok());
    let most = most.ok_or_else(|| Error::clip("a palette of 1 to 256 colours", "another"))?;
    let colours: &[Srgb<u8>] = clip.frames.components_as();
    // the quantizer sees all frames stacked as one tall image
    let image = u32::try_from(clip.w)
        .ok()
        .zip(u32::try_from(clip.f * clip.h).ok())
        .and_then(|(w, h)| ImageRef::new(w, h, colours).ok())
        .ok_or_else(|| Error::clip("fewer than 2^32 pixels", format!("{}", colours.len())))?;
    let indexed = Pipeline::new()
        .palette_size(most)
        .quantize_method(QuantizeMethod::kmeans())
        .ditherer(None)
        .input_image(image)
        .output_srgb8_indexed_image();
    let (palette, pixels) = indexed.into_parts();
    Ok(Indexed { palette: palette.into_iter().map(|c| [c.red, c.green, c.blue]).collect(), pixels })
}
