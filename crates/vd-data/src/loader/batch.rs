//! Samples side by side.

use std::sync::Arc;

use tch::Tensor;

use super::Cursor;
use crate::{Error, Result, Row, Sample, Taken};

/// A batch on the CPU.
#[derive(Debug)]
#[non_exhaustive]
pub struct Batch {
    /// The pixels, [0, 255].
    ///
    /// # Shapes
    /// b c f h w, kind u8; in memory channels last (b f h w c), so that neither layout costs a copy from here
    pub video: Tensor,
    /// Which frames are real: kind bool, b f; `None` where all are.
    pub keep: Option<Tensor>,
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
    /// Puts samples of one shape together.
    pub(super) fn assemble(samples: Vec<Sample>, cursor_after: Cursor) -> Result<Self> {
        let first = samples.first().ok_or(Error::WorkersGone)?;
        let (f, h, w, c) = (first.clip.f, first.clip.h, first.clip.w, first.clip.c);
        let mut bytes = Vec::with_capacity(samples.len() * first.clip.frames.len());
        let mut kept = Vec::with_capacity(samples.len() * f);
        for sample in &samples {
            bytes.extend_from_slice(&sample.clip.frames);
            kept.extend((0..f).map(|frame| frame < sample.kept));
        }
        let b = samples.len() as i64;
        let shape = [b, f as i64, h as i64, w as i64, c as i64];
        let keep = if kept.iter().all(|&real| real) {
            None
        } else {
            Some(Tensor::f_from_slice(&kept)?.f_view(&shape[..2])?)
        };
        Ok(Self {
            video: Tensor::f_from_slice(&bytes)?.f_view(shape)?.f_permute([0, 4, 1, 2, 3])?,
            keep,
            fps: samples.iter().map(|sample| sample.clip.fps).collect(),
            taken: samples.iter().map(|sample| sample.taken).collect(),
            rows: samples.iter().map(|sample| sample.row.clone()).collect(),
            folders: samples.iter().map(|sample| sample.folder.clone()).collect(),
            captions: samples.into_iter().map(|sample| sample.caption).collect(),
            cursor_after,
        })
    }
}
