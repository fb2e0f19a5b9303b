//! Converts decoded images to rows of one or three bytes per pixel.

use image::DynamicImage;

/// Appends the pixels of `image` with `channels` bytes each; transparency is composited over black.
pub(crate) fn append(frames: &mut Vec<u8>, image: DynamicImage, channels: usize) {
    let image = if image.color().has_alpha() { over_black(image) } else { image };
    if channels == 1 {
        frames.extend_from_slice(image.into_luma8().as_raw());
    } else {
        frames.extend_from_slice(image.into_rgb8().as_raw());
    }
}

/// Composites a partly transparent image over black.
fn over_black(image: DynamicImage) -> DynamicImage {
    let mut image = image.into_rgba8();
    for pixel in image.pixels_mut() {
        let alpha = u32::from(pixel.0[3]);
        if alpha < 255 {
            for value in &mut pixel.0[..3] {
                // rounded to nearest; exact at 0 and 255
                *value = ((u32::from(*value) * alpha + 127) / 255) as u8;
            }
        }
    }
    DynamicImage::ImageRgba8(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgba, RgbaImage};

    #[test]
    fn transparency_is_laid_over_black() {
        let mut image = RgbaImage::new(3, 1);
        image.put_pixel(0, 0, Rgba([200, 100, 51, 255]));
        image.put_pixel(1, 0, Rgba([200, 100, 51, 128]));
        image.put_pixel(2, 0, Rgba([200, 100, 51, 0]));
        let mut frames = Vec::new();
        append(&mut frames, DynamicImage::ImageRgba8(image), 3);
        assert_eq!(frames, [200, 100, 51, 100, 50, 26, 0, 0, 0]);
    }

    #[test]
    fn grey_stays_what_it_is_in_one_channel() {
        let image = RgbaImage::from_fn(256, 1, |x, _| Rgba([x as u8, x as u8, x as u8, 255]));
        let mut frames = Vec::new();
        append(&mut frames, DynamicImage::ImageRgba8(image), 1);
        assert_eq!(frames, (0..=255).collect::<Vec<u8>>());
    }
}
