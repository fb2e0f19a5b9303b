//! Writes clips as lossless animated WebP.

use std::path::Path;

use webp_animation::{ColorMode, Encoder, EncoderOptions, EncodingConfig, EncodingType};

use super::write_file;
use crate::decode::webp::chunks;
use crate::{Clip, Error, Result};

/// The shortest duration that browsers respect, in 1/1000 s.
const SHORTEST: u64 = 11;
/// The longest duration of the format, in 1/1000 s.
const LONGEST: u64 = (1 << 24) - 1;
/// The maximum side in pixels.
const MAX_SIDE: usize = 1 << 14;
/// The effort from 0 to 100; more makes files hardly smaller and takes long.
const EFFORT: f32 = 40.0;

/// The rate at which an animated WebP of `fps` frames per second is shown.
///
/// # Range
/// From 1/16778 to 90.9: frames last from 11/1000 s, below which players slow them down, to (2^24 -
/// 1)/1000 s.
pub fn webp_fps(fps: f64) -> f64 {
    fps.clamp(1000.0 / LONGEST as f64, 1000.0 / SHORTEST as f64)
}

/// Writes a clip as a lossless animated WebP that loops for ever.
///
/// The format counts durations in 1/1000 s: if the rate does not divide 1000, they vary by one, so
/// that no frame is off by more than half of that. Rates outside the format's range become those of
/// [`webp_fps`].
///
/// # Errors
/// When a side exceeds 16384, or the file cannot be written.
pub fn write_webp(path: &Path, clip: &Clip) -> Result<()> {
    clip.check()?;
    if clip.h > MAX_SIDE || clip.w > MAX_SIDE {
        let got = format!("{} x {}", clip.h, clip.w);
        return Err(Error::clip(format!("sides of at most {MAX_SIDE}"), got));
    }
    let mut body = b"WEBP".to_vec();
    let three = |n: usize| [n as u8, (n >> 8) as u8, (n >> 16) as u8];
    let canvas = [three(clip.w - 1), three(clip.h - 1)].concat();
    // the animation flag; no transparency, colour profile or metadata
    append(&mut body, b"VP8X", &[&[2, 0, 0, 0][..], &canvas].concat());
    // black background; infinite loop
    append(&mut body, b"ANIM", &[0, 0, 0, 255, 0, 0]);
    for (index, duration) in durations(clip.f, clip.fps).into_iter().enumerate() {
        let part = Part::changed(clip, index);
        let image = part.image(clip, index).map_err(|e| Error::write(path, e))?;
        let mut frame = [part.x / 2, part.y / 2, part.w - 1, part.h - 1].map(three).concat();
        frame.extend(three(duration));
        // drawn without blending, and not disposed of
        frame.push(2);
        append(&mut frame, b"VP8L", &image);
        append(&mut body, b"ANMF", &frame);
    }
    let length = u32::try_from(body.len())
        .map_err(|_| Error::clip("a WebP of less than 4 GiB", format!("{} bytes", body.len())))?;
    let mut bytes = b"RIFF".to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.extend(body);
    write_file(path, &bytes)
}

/// Appends a chunk: its name, its length, and data padded to an even number of bytes.
fn append(out: &mut Vec<u8>, name: &[u8; 4], data: &[u8]) {
    out.extend(name);
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
    if data.len() % 2 == 1 {
        out.push(0);
    }
}

/// Durations in 1/1000 s that follow the rate as closely as whole numbers can.
fn durations(f: usize, fps: f64) -> Vec<usize> {
    let at = |frame: usize| (1000.0 * frame as f64 / fps).round() as u64;
    (0..f).map(|frame| (at(frame + 1) - at(frame)).clamp(SHORTEST, LONGEST) as usize).collect()
}

/// A rectangle of a frame; its corner has even coordinates, as the format requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    y: usize,
    x: usize,
    h: usize,
    w: usize,
}

impl Part {
    /// The smallest rectangle outside of which a frame equals the one before; the whole frame for
    /// the first.
    fn changed(clip: &Clip, index: usize) -> Self {
        let Clip { h, w, c, .. } = *clip;
        if index == 0 {
            return Self { y: 0, x: 0, h, w };
        }
        let (before, now) = (clip.frame(index - 1), clip.frame(index));
        let [mut top, mut left, mut bottom, mut right] = [h, w, 0, 0];
        for (place, (a, b)) in before.chunks_exact(c).zip(now.chunks_exact(c)).enumerate() {
            if a != b {
                let (y, x) = (place / w, place % w);
                (top, left) = (top.min(y), left.min(x));
                (bottom, right) = (bottom.max(y + 1), right.max(x + 1));
            }
        }
        if bottom == 0 {
            // a frame must not be empty
            return Self { y: 0, x: 0, h: 1, w: 1 };
        }
        let (y, x) = (top / 2 * 2, left / 2 * 2);
        Self { y, x, h: bottom - y, w: right - x }
    }

    /// The encoded pixels of this part of a frame: the data of a VP8L chunk.
    fn image(self, clip: &Clip, index: usize) -> std::io::Result<Vec<u8>> {
        let frame = clip.frame(index);
        let mut pixels = Vec::with_capacity(self.h * self.w * 4);
        for row in self.y..self.y + self.h {
            let from = (row * clip.w + self.x) * clip.c;
            for pixel in frame[from..from + self.w * clip.c].chunks_exact(clip.c) {
                let [r, g, b] = [0, 1, 2].map(|k: usize| pixel[k.min(clip.c - 1)]);
                pixels.extend([r, g, b, 255]);
            }
        }
        let encoding = EncodingConfig {
            encoding_type: EncodingType::Lossless,
            quality: EFFORT,
            ..EncodingConfig::default()
        };
        let options = EncoderOptions {
            color_mode: ColorMode::Rgba,
            encoding_config: Some(encoding),
            ..EncoderOptions::default()
        };
        let other = |e: webp_animation::Error| std::io::Error::other(e.to_string());
        let size = (self.w as u32, self.h as u32);
        let mut encoder = Encoder::new_with_options(size, options).map_err(other)?;
        encoder.add_frame(&pixels, 0).map_err(other)?;
        let file = encoder.finalize(100).map_err(other)?;
        let image = image_of(&file)
            .ok_or_else(|| std::io::Error::other("the encoder did not return a lossless image"))?;
        Ok(image.to_vec())
    }
}

/// The lossless image of a file with one frame, animated or not.
fn image_of(file: &[u8]) -> Option<&[u8]> {
    chunks(file).find_map(|(name, data)| match name {
        b"VP8L" => Some(data),
        // the chunks of a frame start after its 16 bytes, those of a file after 12
        b"ANMF" => image_of(data.get(4..)?),
        _ => None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};
    use proptest::prelude::*;

    fn back(clip: &Clip) -> Clip {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.webp");
        write_webp(&path, clip).unwrap();
        crate::decode(&path, clip.c).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn every_pixel_and_frame_comes_back_as_it_was(
            f in 1usize..6, h in 1usize..20, w in 1usize..20, seed in 0u64..1000,
            fps in 1.0f64..90.0, grey: bool,
        ) {
            let c = if grey { 1 } else { 3 };
            let mut stream = Stream::new(Purpose::Sample, seed, 0, 0);
            let mut clip = Clip::new(vec![0; f * h * w * c], [f, h, w, c], fps).unwrap();
            // frames that change in a part, and some that do not change at all
            for index in 1..f {
                let (y, x) = (stream.below(h), stream.below(w));
                let noisy = stream.below(3);
                for place in 0..h * w {
                    let inside = place / w >= y && place % w >= x;
                    for k in 0..c {
                        let at = (index * h * w + place) * c + k;
                        let drawn = stream.below(256) as u8;
                        clip.frames[at] = match (noisy, inside) {
                            (1, true) | (2, _) => drawn,
                            _ => clip.frames[at - h * w * c],
                        };
                    }
                }
            }
            let found = back(&clip);
            prop_assert_eq!(&found.frames, &clip.frames);
            prop_assert_eq!((found.f, found.h, found.w, found.c), (f, h, w, c));
            prop_assert!((f as f64 / found.fps - f as f64 / fps).abs() <= 0.000_51);
        }

        #[test]
        fn a_rate_that_cannot_be_held_is_told_as_what_it_becomes(f in 1usize..200, fps in 1e-5f64..1e4) {
            prop_assert_eq!(durations(f, fps), durations(f, webp_fps(fps)));
        }
    }

    #[test]
    fn parts_have_even_corners_and_hold_all_that_changed() {
        let mut clip = Clip::new(vec![0; 3 * 9 * 7], [3, 9, 7, 1], 8.0).unwrap();
        clip.frames[63 + 3 * 7 + 5] = 9;
        clip.frames[63 + 5 * 7 + 3] = 9;
        assert_eq!(Part::changed(&clip, 0), Part { y: 0, x: 0, h: 9, w: 7 });
        assert_eq!(Part::changed(&clip, 1), Part { y: 2, x: 2, h: 4, w: 4 });
        let same = clip.pick(&[1, 1]);
        assert_eq!(Part::changed(&same, 1), Part { y: 0, x: 0, h: 1, w: 1 });
        assert_eq!(back(&same).f, 2);
    }

    #[test]
    fn larger_sides_than_the_format_has_are_refused() {
        let clip = Clip::new(vec![0; 16_385], [1, 1, 16_385, 1], 8.0).unwrap();
        let error = write_webp(Path::new("a.webp"), &clip).unwrap_err();
        assert!(error.to_string().contains("16384"), "{error}");
    }
}
