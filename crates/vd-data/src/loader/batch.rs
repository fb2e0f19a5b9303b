//! Samples side by side.

use std::sync::Arc;

use tch::Tensor;

use super::images::{Image, ImageInfo};
use super::{Cursor, Loaded};
use crate::{Clip, Error, Result, Row, Taken};

/// A batch on the CPU.
#[derive(Debug)]
#[non_exhaustive]
pub struct Batch {
    /// The pixels, [0, 255]: the frames of each clip, and behind them the k images beside it.
    ///
    /// # Shapes
    /// b c (f + k) h w, kind u8; in memory channels last, so that neither layout costs a copy from here
    pub video: Tensor,
    /// How many of the frames are the clip's: f.
    pub clip_frames: usize,
    /// Which frames are real, as all images are: kind bool, b (f + k); `None` where all are.
    pub keep: Option<Tensor>,
    /// What is known of the images beside each clip, in their order: b k.
    pub images: Vec<Vec<ImageInfo>>,
    /// What the clips show.
    pub captions: Vec<Option<String>>,
    /// What a table says of each clip.
    pub rows: Vec<Option<Arc<Row>>>,
    /// The name of the folder that each clip lies in, below that of the data set.
    pub folders: Vec<Option<Arc<str>>>,
    /// Which frames of its file each clip has.
    pub taken: Vec<Taken>,
    /// Frames per second of each clip, the stride taken into account.
    pub fps: Vec<f64>,
    /// Where the next batch begins.
    pub cursor_after: Cursor,
}

impl Batch {
    /// Puts samples of one shape together, each with as many images.
    pub(super) fn assemble(loaded: Vec<Loaded>, cursor_after: Cursor) -> Result<Self> {
        let first = loaded.first().ok_or(Error::WorkersGone)?;
        let Clip { f, h, w, c, .. } = first.sample.clip;
        let all = f + first.images.len();
        let mut bytes = Vec::with_capacity(loaded.len() * all * h * w * c);
        let mut kept = Vec::with_capacity(loaded.len() * all);
        for Loaded { sample, images, .. } in &loaded {
            bytes.extend_from_slice(&sample.clip.frames);
            kept.extend((0..f).map(|frame| frame < sample.kept));
            for image in images {
                bytes.extend_from_slice(&image.clip.frames);
                kept.push(true);
            }
        }
        let b = loaded.len() as i64;
        let shape = [b, all as i64, h as i64, w as i64, c as i64];
        let keep = if kept.iter().all(|&real| real) {
            None
        } else {
            Some(Tensor::f_from_slice(&kept)?.f_view(&shape[..2])?)
        };
        let infos = |images: Vec<Image>| images.into_iter().map(|image| image.info).collect();
        let (samples, images): (Vec<_>, Vec<Vec<_>>) =
            loaded.into_iter().map(|loaded| (loaded.sample, infos(loaded.images))).unzip();
        Ok(Self {
            video: Tensor::f_from_slice(&bytes)?.f_view(shape)?.f_permute([0, 4, 1, 2, 3])?,
            clip_frames: f,
            keep,
            images,
            fps: samples.iter().map(|sample| sample.clip.fps).collect(),
            taken: samples.iter().map(|sample| sample.taken).collect(),
            rows: samples.iter().map(|sample| sample.row.clone()).collect(),
            folders: samples.iter().map(|sample| sample.folder.clone()).collect(),
            captions: samples.into_iter().map(|sample| sample.caption).collect(),
            cursor_after,
        })
    }
}
