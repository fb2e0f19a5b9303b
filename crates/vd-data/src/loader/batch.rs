//! Samples stacked into a batch.

use std::sync::Arc;

use tch::Tensor;

use super::images::{Image, ImageInfo};
use super::{Cursor, Loaded};
use crate::{Error, Result, Row, Taken};

/// A batch on the CPU.
#[derive(Debug)]
#[non_exhaustive]
pub struct Batch {
    /// The frames of each clip, followed by its k images: pixels, [0, 255], kind u8; for numbers in
    /// another unit, values in the range of the diffusion process, kind f32, 0 where they are
    /// missing.
    ///
    /// # Shapes
    /// b c (f + k) h w; channels last in memory, so that neither layout needs a copy later
    pub video: Tensor,
    /// Which numbers are present: kind bool, the shape and layout of `video`; `None` if all are.
    pub valid: Option<Tensor>,
    /// How many of the frames belong to the clip: f.
    pub clip_frames: usize,
    /// Which frames are real (images always are): kind bool, b (f + k); `None` if all are.
    pub keep: Option<Tensor>,
    /// Metadata of the images of each clip, in their order: b k.
    pub images: Vec<Vec<ImageInfo>>,
    /// The captions of the clips.
    pub captions: Vec<Option<String>>,
    /// Each clip's row in a table.
    pub rows: Vec<Option<Arc<Row>>>,
    /// The name of the folder that contains each clip, below the root of the data set.
    pub folders: Vec<Option<Arc<str>>>,
    /// Which frames of its file each clip consists of.
    pub taken: Vec<Taken>,
    /// Frames per second of each clip, the stride taken into account.
    pub fps: Vec<f64>,
    /// The position of the next batch.
    pub cursor_after: Cursor,
}

impl Batch {
    /// Stacks samples of one shape, each with the same number of images.
    pub(super) fn assemble(loaded: Vec<Loaded>, cursor_after: Cursor) -> Result<Self> {
        let first = loaded.first().ok_or(Error::WorkersGone)?;
        let [f, h, w, c] = first.sample.clip.shape();
        let all = f + first.images.len();
        let mut kept = Vec::with_capacity(loaded.len() * all);
        for Loaded { sample, images, .. } in &loaded {
            kept.extend((0..f).map(|frame| frame < sample.kept));
            kept.extend(images.iter().map(|_| true));
        }
        let b = loaded.len() as i64;
        let shape = [b, all as i64, h as i64, w as i64, c as i64];
        let (video, valid) = numbers(&loaded)?;
        let public =
            |x: Tensor| -> Result<Tensor> { Ok(x.f_view(shape)?.f_permute([0, 4, 1, 2, 3])?) };
        let keep = if kept.iter().all(|&real| real) {
            None
        } else {
            Some(Tensor::f_from_slice(&kept)?.f_view(&shape[..2])?)
        };
        let infos = |images: Vec<Image>| images.into_iter().map(|image| image.info).collect();
        let (samples, images): (Vec<_>, Vec<Vec<_>>) =
            loaded.into_iter().map(|loaded| (loaded.sample, infos(loaded.images))).unzip();
        Ok(Self {
            video: public(video)?,
            valid: valid.map(public).transpose()?,
            clip_frames: f,
            keep,
            images,
            fps: samples.iter().map(|sample| sample.clip.fps()).collect(),
            taken: samples.iter().map(|sample| sample.taken).collect(),
            rows: samples.iter().map(|sample| sample.row.clone()).collect(),
            folders: samples.iter().map(|sample| sample.folder.clone()).collect(),
            captions: samples.into_iter().map(|sample| sample.caption).collect(),
            cursor_after,
        })
    }
}

/// The numbers of all samples one after the other, and which of them are present. For numbers other
/// than bytes the config allows no images.
fn numbers(loaded: &[Loaded]) -> Result<(Tensor, Option<Tensor>)> {
    if loaded.iter().all(|loaded| loaded.sample.clip.bytes().is_some()) {
        let mut parts = Vec::new();
        for Loaded { sample, images, .. } in loaded {
            parts.extend(sample.clip.bytes().map(|clip| clip.frames.as_slice()));
            parts.extend(images.iter().map(|image| image.clip.frames.as_slice()));
        }
        return Ok((Tensor::f_from_slice(&parts.concat())?, None));
    }
    let clips: Vec<_> = loaded.iter().filter_map(|loaded| loaded.sample.clip.floats()).collect();
    let valid: Vec<bool> = clips.iter().flat_map(|clip| clip.valid()).collect();
    let values = clips.iter().flat_map(|clip| clip.values.iter());
    let values: Vec<f32> = values.map(|x| if x.is_finite() { *x } else { 0.0 }).collect();
    let all = valid.iter().all(|valid| *valid);
    let valid = if all { None } else { Some(Tensor::f_from_slice(&valid)?) };
    Ok((Tensor::f_from_slice(&values)?, valid))
}
