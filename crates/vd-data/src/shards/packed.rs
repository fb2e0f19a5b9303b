//! One clip in a shard.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::{DynamicImage, GrayImage, RgbImage};

use super::file::ShardFile;
use super::record::Dtype;
use crate::clip::check_shape;
use crate::decode::{Probe, append_pixels};
use crate::{Clip, Error, Result};

/// A clip that was prepared (see [`crate::prepare`]), or one that could not be.
#[derive(Debug, Clone)]
pub struct Packed(Arc<Content>);

#[derive(Debug)]
enum Content {
    Clip { shard: Arc<ShardFile>, offset: u64, shape: [usize; 4], dtype: Dtype, fps: f64 },
    Bad { path: PathBuf, reason: String },
}

/// Two are equal that are the same bytes of the same file.
impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        match (&*self.0, &*other.0) {
            (
                Content::Clip { shard, offset, shape, .. },
                Content::Clip { shard: shard2, offset: offset2, shape: shape2, .. },
            ) => (shard.path(), offset, shape) == (shard2.path(), offset2, shape2),
            (Content::Bad { path, reason }, Content::Bad { path: path2, reason: reason2 }) => {
                (path, reason) == (path2, reason2)
            }
            _ => false,
        }
    }
}

impl Eq for Packed {}

impl Packed {
    /// A clip of an index that was checked.
    pub(super) fn clip(
        shard: Arc<ShardFile>,
        offset: u64,
        shape: [usize; 4],
        dtype: Dtype,
        fps: f64,
    ) -> Self {
        Self(Arc::new(Content::Clip { shard, offset, shape, dtype, fps }))
    }

    /// A place in the order without a clip.
    pub(super) fn bad(path: PathBuf, reason: String) -> Self {
        Self(Arc::new(Content::Bad { path, reason }))
    }

    /// The shard, or the file that could not be prepared.
    pub(crate) fn path(&self) -> &Path {
        match &*self.0 {
            Content::Clip { shard, .. } => shard.path(),
            Content::Bad { path, .. } => path,
        }
    }

    /// How many bytes it takes.
    pub(crate) fn bytes(&self) -> u64 {
        match &*self.0 {
            Content::Clip { shape, dtype, .. } => {
                shape.iter().product::<usize>() as u64 * dtype.bytes() as u64
            }
            Content::Bad { .. } => 0,
        }
    }

    /// What the index says of it.
    ///
    /// # Errors
    /// Why it could not be prepared.
    pub(crate) fn probe(&self) -> Result<Probe> {
        match &*self.0 {
            Content::Clip { shape: [f, h, w, _], fps, .. } => {
                Ok(Probe { f: *f, h: *h, w: *w, fps: *fps })
            }
            Content::Bad { path, reason } => {
                Err(Error::Unprepared { path: path.clone(), reason: reason.clone() })
            }
        }
    }

    /// The frames at `wanted` (ascending), or all.
    pub(crate) fn frames(
        &self,
        channels: usize,
        wanted: Option<&[usize]>,
        fps: f64,
    ) -> Result<Clip> {
        let Probe { f, h, w, .. } = self.probe()?;
        let own = self.channels()?;
        if channels != 1 && channels != 3 {
            return Err(Error::config("data.channels", "1 or 3", channels));
        }
        let all: Vec<usize>;
        let wanted = match wanted {
            Some(wanted) => wanted,
            None => {
                all = (0..f).collect();
                &all
            }
        };
        if let Some(beyond) = wanted.iter().find(|index| **index >= f) {
            let expected = format!("a frame {beyond}");
            return Err(Error::damaged(self.path(), expected, format!("a clip of {f} frames")));
        }
        check_shape(wanted.len(), [h, w], channels.max(own))?;
        let mut bytes = vec![0; wanted.len() * h * w * own];
        self.read(&mut bytes, wanted)?;
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

    /// Hands the wanted frames (all, if `None`) to `visit`, in order, one in memory at a time.
    pub(crate) fn for_each_frame(
        &self,
        wanted: Option<&[usize]>,
        visit: &mut dyn FnMut(&Path, DynamicImage) -> Result<()>,
    ) -> Result<()> {
        let Probe { f, h, w, .. } = self.probe()?;
        let mut bytes = vec![0; h * w * self.channels()?];
        for index in (0..f).filter(|k| wanted.is_none_or(|list| list.binary_search(k).is_ok())) {
            self.read(&mut bytes, &[index])?;
            visit(self.path(), image(&bytes, [h, w])?)?;
        }
        Ok(())
    }

    /// Its own channels; refuses what clips of bytes cannot hold.
    fn channels(&self) -> Result<usize> {
        match &*self.0 {
            Content::Clip { shape: [.., c @ (1 | 3)], dtype: Dtype::U8, .. } => Ok(*c),
            Content::Clip { shape: [.., c], dtype, .. } => {
                let found = format!("{c} channels of {dtype:?}");
                Err(Error::damaged(self.path(), "1 or 3 channels of bytes", found))
            }
            Content::Bad { .. } => Ok(1),
        }
    }

    /// Reads frames one after the other; those that follow each other in the file at once.
    fn read(&self, out: &mut [u8], wanted: &[usize]) -> Result<()> {
        let Content::Clip { shard, offset, shape, dtype, .. } = &*self.0 else {
            return Ok(());
        };
        let frame = shape[1..].iter().product::<usize>() * dtype.bytes();
        let mut rest = out;
        for run in wanted.chunk_by(|a, b| a + 1 == *b) {
            let (now, later) = rest.split_at_mut(run.len() * frame);
            shard.read(now, offset + (run[0] * frame) as u64)?;
            rest = later;
        }
        Ok(())
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
    image.ok_or_else(|| Error::clip("a whole frame", format!("a part of {h} x {w}")))
}
