//! One clip in a shard.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::{DynamicImage, GrayImage, RgbImage};

use super::file::ShardFile;
use super::record::Dtype;
use crate::clip::check_shape;
use crate::decode::{Numbers, Probe, append_pixels};
use crate::floats::check_floats;
use crate::{Clip, Error, FloatClip, Result};

/// A clip that was prepared (see [`crate::prepare`]), or one that could not be.
#[derive(Debug, Clone)]
pub struct Packed(Arc<Content>);

#[derive(Debug)]
enum Content {
    Clip(Stored),
    Bad { path: PathBuf, reason: String },
}

/// A clip from a validated index.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) shard: Arc<ShardFile>,
    pub(super) offset: u64,
    /// f h w c
    pub(super) shape: [usize; 4],
    pub(super) dtype: Dtype,
    pub(super) fps: f64,
    /// Whether it was prepared from an array.
    pub(super) array: bool,
    /// Whether its numbers differ from those of its array because they were rounded or scaled.
    pub(super) changed: bool,
    /// The number that marked missing values, and was replaced by a missing value.
    pub(super) invalid: Option<f64>,
}

/// Two are equal if they are the same bytes of the same file.
impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        match (&*self.0, &*other.0) {
            (Content::Clip(one), Content::Clip(two)) => {
                (one.shard.path(), one.offset, one.shape)
                    == (two.shard.path(), two.offset, two.shape)
            }
            (Content::Bad { path, reason }, Content::Bad { path: path2, reason: reason2 }) => {
                (path, reason) == (path2, reason2)
            }
            _ => false,
        }
    }
}

impl Eq for Packed {}

impl Packed {
    pub(super) fn clip(stored: Stored) -> Self {
        Self(Arc::new(Content::Clip(stored)))
    }

    /// A position in the order without a clip.
    pub(super) fn bad(path: PathBuf, reason: String) -> Self {
        Self(Arc::new(Content::Bad { path, reason }))
    }

    /// The shard, or the file that could not be prepared.
    pub(crate) fn path(&self) -> &Path {
        match &*self.0 {
            Content::Clip(stored) => stored.shard.path(),
            Content::Bad { path, .. } => path,
        }
    }

    /// Its size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        match &*self.0 {
            Content::Clip(stored) => stored.bytes(),
            Content::Bad { .. } => 0,
        }
    }

    /// The kind of its numbers; `None` for pictures, and without a clip.
    pub(crate) fn numbers(&self) -> Option<Numbers> {
        match &*self.0 {
            Content::Clip(stored) if !stored.is_picture() => {
                Some(Numbers { dtype: stored.dtype.numbers(), channels: stored.shape[3] })
            }
            _ => None,
        }
    }

    /// Whether `invalid`, the mark of missing values, can still be recognised.
    pub(crate) fn tells(&self, invalid: f64) -> bool {
        match &*self.0 {
            Content::Clip(stored) => !stored.changed || stored.invalid == Some(invalid),
            Content::Bad { .. } => true,
        }
    }

    /// Its properties according to the index.
    ///
    /// # Errors
    /// The reason why it could not be prepared.
    pub(crate) fn probe(&self) -> Result<Probe> {
        let Stored { shape: [f, h, w, _], fps, .. } = self.stored()?;
        Ok(Probe { f: *f, h: *h, w: *w, fps: *fps })
    }

    fn stored(&self) -> Result<&Stored> {
        match &*self.0 {
            Content::Clip(stored) => Ok(stored),
            Content::Bad { path, reason } => {
                Err(Error::Unprepared { path: path.clone(), reason: reason.clone() })
            }
        }
    }

    /// The frames at `wanted` (ascending), or all, as pixels.
    pub(crate) fn frames(
        &self,
        channels: usize,
        wanted: Option<&[usize]>,
        fps: f64,
    ) -> Result<Clip> {
        let stored = self.stored()?;
        let ([f, h, w, _], own) = (stored.shape, stored.pixels()?);
        if channels != 1 && channels != 3 {
            return Err(Error::config("data.channels", "1 or 3", channels));
        }
        if stored.array {
            stored.check_channels(channels)?;
        }
        let wanted = list(wanted, f);
        stored.check_frames(&wanted)?;
        check_shape(wanted.len(), [h, w], channels.max(own))?;
        let mut bytes = Vec::with_capacity(wanted.len() * h * w * own);
        stored.read(&wanted, &mut |part| bytes.extend_from_slice(part))?;
        if own != channels {
            let frames = bytes.chunks_exact(h * w * own);
            let mut changed = Vec::with_capacity(wanted.len() * h * w * channels);
            for frame in frames {
                append_pixels(&mut changed, image(frame, [h, w])?, channels);
            }
            bytes = changed;
        }
        Clip::new(bytes, [wanted.len(), h, w, channels], fps)
    }

    /// The frames at `wanted` (ascending), or all, as numbers.
    pub(crate) fn floats(
        &self,
        channels: usize,
        wanted: Option<&[usize]>,
        fps: f64,
    ) -> Result<FloatClip> {
        let stored = self.stored()?;
        if stored.is_picture() {
            return Ok(FloatClip::from(&self.frames(channels, wanted, fps)?));
        }
        stored.check_channels(channels)?;
        let [f, h, w, c] = stored.shape;
        let wanted = list(wanted, f);
        stored.check_frames(&wanted)?;
        check_floats(wanted.len(), [h, w], c)?;
        let mut values = Vec::with_capacity(wanted.len() * h * w * c);
        let kind = stored.dtype.numbers();
        stored.read(&wanted, &mut |part| kind.decode(part, false, &mut values))?;
        FloatClip::new(values, [wanted.len(), h, w, c], fps)
    }

    /// Passes the wanted frames (all, if `None`) to `visit`, in order, with only one in memory at a
    /// time.
    pub(crate) fn for_each_frame(
        &self,
        wanted: Option<&[usize]>,
        visit: &mut dyn FnMut(&Path, DynamicImage) -> Result<()>,
    ) -> Result<()> {
        let stored = self.stored()?;
        let [f, h, w, _] = stored.shape;
        stored.pixels()?;
        for index in (0..f).filter(|k| wanted.is_none_or(|list| list.binary_search(k).is_ok())) {
            let mut bytes = Vec::new();
            stored.read(&[index], &mut |part| bytes.extend_from_slice(part))?;
            visit(self.path(), image(&bytes, [h, w])?)?;
        }
        Ok(())
    }
}

/// The wanted frames, or all.
fn list(wanted: Option<&[usize]>, f: usize) -> Cow<'_, [usize]> {
    wanted.map_or_else(|| (0..f).collect(), Cow::Borrowed)
}

impl Stored {
    fn bytes(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64 * self.dtype.bytes() as u64
    }

    fn is_picture(&self) -> bool {
        !self.array && self.pixels().is_ok()
    }

    /// Its number of channels; refuses one that clips of bytes cannot have.
    fn pixels(&self) -> Result<usize> {
        match (self.dtype, self.shape[3]) {
            (Dtype::U8, c @ (1 | 3)) => Ok(c),
            (dtype, c) => {
                let expected =
                    "1 or 3 channels of u8, that is, pixels; for others set data.normalise";
                let found = format!("{c} channels of {}", dtype.numbers());
                Err(Error::damaged(self.shard.path(), expected, found))
            }
        }
    }

    fn check_channels(&self, channels: usize) -> Result<()> {
        if self.shape[3] == channels {
            return Ok(());
        }
        let expected = format!("{channels} channels (data.channels)");
        let found = format!("an array of {}", self.shape[3]);
        Err(Error::damaged(self.shard.path(), expected, found))
    }

    fn check_frames(&self, wanted: &[usize]) -> Result<()> {
        let f = self.shape[0];
        match wanted.iter().find(|index| **index >= f) {
            Some(beyond) => {
                let (expected, found) =
                    (format!("a frame {beyond}"), format!("a clip of {f} frames"));
                Err(Error::damaged(self.shard.path(), expected, found))
            }
            None => Ok(()),
        }
    }

    /// Passes the bytes of frames to `visit`, consecutive frames at once.
    fn read(&self, wanted: &[usize], visit: &mut dyn FnMut(&[u8])) -> Result<()> {
        let frame = self.shape[1..].iter().product::<usize>() * self.dtype.bytes();
        self.shard.with(self.offset..self.offset + self.bytes(), |clip| {
            for run in wanted.chunk_by(|a, b| a + 1 == *b) {
                visit(&clip[run[0] * frame..(run[0] + run.len()) * frame]);
            }
        })
    }
}

/// A frame of one or three channels.
fn image(bytes: &[u8], [h, w]: [usize; 2]) -> Result<DynamicImage> {
    let (h, w, bytes) = (h as u32, w as u32, bytes.to_vec());
    let image = if bytes.len() as u64 == u64::from(h) * u64::from(w) {
        GrayImage::from_raw(w, h, bytes).map(DynamicImage::ImageLuma8)
    } else {
        RgbImage::from_raw(w, h, bytes).map(DynamicImage::ImageRgb8)
    };
    image.ok_or_else(|| Error::clip("a complete frame", format!("a part of {h} x {w}")))
}
