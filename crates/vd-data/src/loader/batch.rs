//! Samples side by side.

use std::sync::Arc;

use tch::Tensor;

use super::Cursor;
use crate::{Error, Result, Row, Sample, Taken};

/// A batch on the CPU.
#[derive(Debug)]
#[non_exhaustive]
pub struct Batch {
    /// The pixels, [0, 255], kind u8; of numbers in another unit those of the diffusion process, kind f32, 0 where they are
    /// missing.
    ///
    /// # Shapes
    /// b c f h w; in memory channels last (b f h w c), so that neither layout costs a copy from here
    pub video: Tensor,
    /// Which numbers are there: kind bool, the shape and layout of `video`; `None` where all are.
    pub valid: Option<Tensor>,
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
        let [f, h, w, c] = first.clip.shape();
        let mut kept = Vec::with_capacity(samples.len() * f);
        for sample in &samples {
            kept.extend((0..f).map(|frame| frame < sample.kept));
        }
        let b = samples.len() as i64;
        let shape = [b, f as i64, h as i64, w as i64, c as i64];
        let (video, valid) = numbers(&samples)?;
        let public =
            |x: Tensor| -> Result<Tensor> { Ok(x.f_view(shape)?.f_permute([0, 4, 1, 2, 3])?) };
        let keep = if kept.iter().all(|&real| real) {
            None
        } else {
            Some(Tensor::f_from_slice(&kept)?.f_view(&shape[..2])?)
        };
        Ok(Self {
            video: public(video)?,
            valid: valid.map(public).transpose()?,
            keep,
            fps: samples.iter().map(|sample| sample.clip.fps()).collect(),
            taken: samples.iter().map(|sample| sample.taken).collect(),
            rows: samples.iter().map(|sample| sample.row.clone()).collect(),
            folders: samples.iter().map(|sample| sample.folder.clone()).collect(),
            captions: samples.into_iter().map(|sample| sample.caption).collect(),
            cursor_after,
        })
    }
}

/// The numbers of all samples one after the other, and which of them are there.
fn numbers(samples: &[Sample]) -> Result<(Tensor, Option<Tensor>)> {
    if samples.iter().all(|sample| sample.clip.bytes().is_some()) {
        let frames = samples.iter().filter_map(|sample| sample.clip.bytes());
        let bytes: Vec<_> = frames.map(|clip| clip.frames.as_slice()).collect();
        return Ok((Tensor::f_from_slice(&bytes.concat())?, None));
    }
    let clips: Vec<_> = samples.iter().filter_map(|sample| sample.clip.floats()).collect();
    let valid: Vec<bool> = clips.iter().flat_map(|clip| clip.valid()).collect();
    let values = clips.iter().flat_map(|clip| clip.values.iter());
    let values: Vec<f32> = values.map(|x| if x.is_finite() { *x } else { 0.0 }).collect();
    let all = valid.iter().all(|valid| *valid);
    let valid = if all { None } else { Some(Tensor::f_from_slice(&valid)?) };
    Ok((Tensor::f_from_slice(&values)?, valid))
}
