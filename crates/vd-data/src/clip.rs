//! A video in memory.

use crate::rows::{flip_rows, pick_frames};
use crate::{Error, Result};

/// The rate assumed if a file states none; browsers play an unmarked GIF at this rate.
pub const UNSTATED_FPS: f64 = 10.0;

/// The maximum size of one clip's frames in bytes.
pub(crate) const MAX_CLIP_BYTES: usize = 2 << 30;

/// Checks a shape before anything is allocated for it.
pub(crate) fn check_shape(frames: usize, [h, w]: [usize; 2], channels: usize) -> Result<()> {
    let bytes = [h, w, channels].into_iter().try_fold(frames, usize::checked_mul);
    if bytes.is_some_and(|bytes| (1..=MAX_CLIP_BYTES).contains(&bytes)) {
        return Ok(());
    }
    Err(Error::clip(
        format!("1 to {MAX_CLIP_BYTES} bytes"),
        format!("{frames} frames of {h} x {w} with {channels} channels"),
    ))
}

/// A video as plain bytes, [0, 255], channels last.
///
/// # Shapes
/// `frames`: f h w c, row by row, c = 1 (grey) or 3 (red, green, blue)
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Clip {
    /// The pixels.
    pub frames: Vec<u8>,
    /// Number of frames.
    pub f: usize,
    /// Height in pixels.
    pub h: usize,
    /// Width in pixels.
    pub w: usize,
    /// Channels: 1 or 3.
    pub c: usize,
    /// Frames per second, on average over the clip.
    pub fps: f64,
}

impl Clip {
    /// Makes a clip of the shape `[f, h, w, c]` from its bytes.
    ///
    /// # Errors
    /// When an extent is 0, `c` is neither 1 nor 3, the number of bytes is not the product of the
    /// extents, or `fps` is not positive and finite.
    pub fn new(frames: Vec<u8>, [f, h, w, c]: [usize; 4], fps: f64) -> Result<Self> {
        let clip = Self { frames, f, h, w, c, fps };
        clip.check()?;
        Ok(clip)
    }

    /// Repeats the checks of [`Clip::new`], since the fields are public.
    ///
    /// # Errors
    /// As [`Clip::new`].
    pub fn check(&self) -> Result<()> {
        let Self { f, h, w, c, .. } = *self;
        if f == 0 || h == 0 || w == 0 {
            return Err(Error::clip(
                "at least one frame of at least one pixel",
                format!("{f} frames of {h} x {w}"),
            ));
        }
        if c != 1 && c != 3 {
            return Err(Error::clip("1 or 3 channels", format!("{c}")));
        }
        let wanted = f.checked_mul(h).and_then(|n| n.checked_mul(w)).and_then(|n| n.checked_mul(c));
        if wanted != Some(self.frames.len()) {
            return Err(Error::clip(
                format!("f h w c = {f} x {h} x {w} x {c} bytes"),
                format!("{} bytes", self.frames.len()),
            ));
        }
        if !(self.fps.is_finite() && self.fps > 0.0) {
            return Err(Error::clip("a positive, finite frame rate", format!("{}", self.fps)));
        }
        Ok(())
    }

    /// Copies a video out of a tensor of bytes.
    ///
    /// # Shapes
    /// `video`: c f h w, kind u8 (one clip of a batch in the public layout)
    /// # Errors
    /// When the shape or the kind differs.
    pub fn from_tensor(video: &tch::Tensor, fps: f64) -> Result<Self> {
        let size = video.size();
        if size.len() != 4 || video.kind() != tch::Kind::Uint8 {
            return Err(Error::clip("a u8 tensor c f h w", format!("{:?} {size:?}", video.kind())));
        }
        let flat = video.f_permute([1, 2, 3, 0])?.f_contiguous()?.f_to_device(tch::Device::Cpu)?;
        let mut frames = vec![0; flat.numel()];
        flat.f_copy_data(&mut frames, flat.numel())?;
        let [c, f, h, w] = [0, 1, 2, 3].map(|axis| size[axis] as usize);
        Self::new(frames, [f, h, w, c], fps)
    }

    /// The bytes of frame `index`: h w c.
    ///
    /// # Panics
    /// When `index` is not below `f`.
    pub fn frame(&self, index: usize) -> &[u8] {
        let bytes = self.h * self.w * self.c;
        &self.frames[index * bytes..(index + 1) * bytes]
    }

    /// Mirrors every frame left to right.
    pub fn flip(&mut self) {
        flip_rows(&mut self.frames, self.w, self.c);
    }

    /// The frames at `indices`, in that order; an index may occur more than once.
    ///
    /// # Panics
    /// When an index is not below `f`.
    #[must_use]
    pub fn pick(&self, indices: &[usize]) -> Self {
        let frames = pick_frames(&self.frames, self.h * self.w * self.c, indices);
        Self { frames, f: indices.len(), ..*self }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn contradictions_are_refused_and_named() {
        let error = |frames: usize, shape, fps| {
            Clip::new(vec![7; frames], shape, fps).unwrap_err().to_string()
        };
        assert!(error(0, [0, 2, 2, 3], 8.0).contains("0 frames"));
        assert!(error(8, [1, 2, 2, 2], 8.0).contains("1 or 3"));
        assert!(error(11, [1, 2, 2, 3], 8.0).contains("11 bytes"));
        assert!(error(12, [1, 2, 2, 3], 0.0).contains("frame rate"));
        assert!(error(12, [1, 2, 2, 3], f64::NAN).contains("frame rate"));
        assert!(error(12, [usize::MAX, 2, 2, 3], 8.0).contains("bytes"));
    }

    proptest! {
        #[test]
        fn a_second_flip_undoes_the_first(
            w in 1usize..6,
            c in prop_oneof![Just(1usize), Just(3)],
            bytes in prop::collection::vec(any::<u8>(), 2 * 3 * 5 * 3),
        ) {
            let clip = Clip::new(bytes[..2 * 3 * w * c].to_vec(), [2, 3, w, c], 8.0).unwrap();
            let mut flipped = clip.clone();
            flipped.flip();
            // f h w c: the first pixel of a row was its last
            prop_assert_eq!(&flipped.frames[..c], &clip.frames[(w - 1) * c..w * c]);
            flipped.flip();
            prop_assert_eq!(flipped, clip);
        }
    }

    #[test]
    fn a_tensor_in_the_public_layout_becomes_channels_last() {
        let values: Vec<u8> = (0..3 * 2 * 2 * 4).collect();
        let video = tch::Tensor::from_slice(&values).view([3, 2, 2, 4]);
        let clip = Clip::from_tensor(&video, 8.0).unwrap();
        assert_eq!((clip.f, clip.h, clip.w, clip.c), (2, 2, 4, 3));
        // pixel (f 1, h 1, w 2) of channel k is k * 16 + 8 + 4 + 2
        assert_eq!(clip.frame(1)[(4 + 2) * 3..(4 + 3) * 3], [14, 30, 46]);
        assert!(Clip::from_tensor(&video.get(0), 8.0).is_err());
    }
}
