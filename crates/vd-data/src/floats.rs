//! A video of any number of channels, in any unit.

use crate::clip::MAX_CLIP_BYTES;
use crate::rows::{flip_rows, pick_frames};
use crate::{Clip, Error, Result};

/// A video as numbers in any unit, channels last. Non-finite values (NaN, infinities) are missing.
///
/// # Shapes
/// `values`: f h w c, row by row
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FloatClip {
    /// The numbers.
    pub values: Vec<f32>,
    /// Number of frames.
    pub f: usize,
    /// Height in pixels.
    pub h: usize,
    /// Width in pixels.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// Frames per second, on average over the clip.
    pub fps: f64,
}

/// Compares bits, so that missing values equal themselves.
impl PartialEq for FloatClip {
    fn eq(&self, other: &Self) -> bool {
        let bits = |clip: &Self| clip.values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        self.shape() == other.shape() && self.fps == other.fps && bits(self) == bits(other)
    }
}

impl FloatClip {
    /// Makes a clip of the shape `[f, h, w, c]` from its numbers.
    ///
    /// # Errors
    /// When an extent is 0, the number of values is not the product of the extents, or `fps` is not
    /// positive and finite.
    pub fn new(values: Vec<f32>, [f, h, w, c]: [usize; 4], fps: f64) -> Result<Self> {
        let wanted = [h, w, c].into_iter().try_fold(f, usize::checked_mul);
        if wanted != Some(values.len()) || values.is_empty() {
            return Err(Error::clip(
                format!("f h w c = {f} x {h} x {w} x {c} values, at least one"),
                format!("{} values", values.len()),
            ));
        }
        if !(fps.is_finite() && fps > 0.0) {
            return Err(Error::clip("a positive, finite frame rate", format!("{fps}")));
        }
        Ok(Self { values, f, h, w, c, fps })
    }

    /// Copies a video out of a tensor of floats.
    ///
    /// # Shapes
    /// `video`: c f h w, f32 (one clip of a batch in the public layout)
    /// # Errors
    /// When the shape or the kind differs.
    pub fn from_tensor(video: &tch::Tensor, fps: f64) -> Result<Self> {
        let size = video.size();
        if size.len() != 4 || video.kind() != tch::Kind::Float {
            let got = format!("{:?} {size:?}", video.kind());
            return Err(Error::clip("an f32 tensor c f h w", got));
        }
        let flat = video.f_permute([1, 2, 3, 0])?.f_contiguous()?.f_to_device(tch::Device::Cpu)?;
        let mut values = vec![0.0f32; flat.numel()];
        flat.f_copy_data(&mut values, flat.numel())?;
        let [c, f, h, w] = [0, 1, 2, 3].map(|axis| size[axis] as usize);
        Self::new(values, [f, h, w, c], fps)
    }

    /// f h w c
    pub fn shape(&self) -> [usize; 4] {
        [self.f, self.h, self.w, self.c]
    }

    /// For each value, whether it is present.
    ///
    /// # Shapes
    /// f h w c
    pub fn valid(&self) -> impl Iterator<Item = bool> + '_ {
        self.values.iter().map(|x| x.is_finite())
    }

    /// Makes every number equal to `invalid` missing.
    pub fn forget(&mut self, invalid: f64) {
        for value in self.values.iter_mut().filter(|value| **value == invalid as f32) {
            *value = f32::NAN;
        }
    }

    /// The numbers of frame `index`: h w c.
    ///
    /// # Panics
    /// When `index` is not below `f`.
    pub fn frame(&self, index: usize) -> &[f32] {
        let values = self.h * self.w * self.c;
        &self.values[index * values..(index + 1) * values]
    }

    /// Mirrors every frame left to right.
    pub fn flip(&mut self) {
        flip_rows(&mut self.values, self.w, self.c);
    }

    /// The frames at `indices`, in that order; an index may occur more than once.
    ///
    /// # Panics
    /// When an index is not below `f`.
    #[must_use]
    pub fn pick(&self, indices: &[usize]) -> Self {
        let values = pick_frames(&self.values, self.h * self.w * self.c, indices);
        Self { values, f: indices.len(), ..*self }
    }
}

/// The bytes as numbers, 0 to 255.
impl From<&Clip> for FloatClip {
    fn from(clip: &Clip) -> Self {
        let Clip { f, h, w, c, fps, .. } = *clip;
        let values = clip.frames.iter().map(|byte| f32::from(*byte)).collect();
        Self { values, f, h, w, c, fps }
    }
}

/// A video as a data set provides it: bytes of pictures, or numbers in any unit.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyClip {
    /// Pixels, [0, 255], 1 or 3 channels.
    Bytes(Clip),
    /// Numbers; missing ones are not finite.
    Floats(FloatClip),
}

impl AnyClip {
    /// f h w c
    pub fn shape(&self) -> [usize; 4] {
        match self {
            Self::Bytes(clip) => [clip.f, clip.h, clip.w, clip.c],
            Self::Floats(clip) => clip.shape(),
        }
    }

    /// Number of frames.
    pub fn f(&self) -> usize {
        self.shape()[0]
    }

    /// Frames per second.
    pub fn fps(&self) -> f64 {
        match self {
            Self::Bytes(clip) => clip.fps,
            Self::Floats(clip) => clip.fps,
        }
    }

    /// The bytes, if the clip consists of bytes.
    pub fn bytes(&self) -> Option<&Clip> {
        match self {
            Self::Bytes(clip) => Some(clip),
            Self::Floats(_) => None,
        }
    }

    /// The numbers, if the clip consists of numbers.
    pub fn floats(&self) -> Option<&FloatClip> {
        match self {
            Self::Bytes(_) => None,
            Self::Floats(clip) => Some(clip),
        }
    }

    /// Mirrors every frame left to right.
    pub fn flip(&mut self) {
        match self {
            Self::Bytes(clip) => clip.flip(),
            Self::Floats(clip) => clip.flip(),
        }
    }

    /// The frames at `indices`, as in [`Clip::pick`].
    ///
    /// # Panics
    /// When an index is not below the number of frames.
    #[must_use]
    pub fn pick(&self, indices: &[usize]) -> Self {
        match self {
            Self::Bytes(clip) => Self::Bytes(clip.pick(indices)),
            Self::Floats(clip) => Self::Floats(clip.pick(indices)),
        }
    }
}

/// Checks the shape of a clip of f32 before anything is allocated for it.
pub(crate) fn check_floats(f: usize, [h, w]: [usize; 2], c: usize) -> Result<()> {
    let bytes = [h, w, c, size_of::<f32>()].into_iter().try_fold(f, usize::checked_mul);
    if bytes.is_some_and(|bytes| (1..=MAX_CLIP_BYTES).contains(&bytes)) {
        return Ok(());
    }
    Err(Error::clip(
        format!("1 to {MAX_CLIP_BYTES} bytes, four for each value"),
        format!("{f} frames of {h} x {w} with {c} channels"),
    ))
}
