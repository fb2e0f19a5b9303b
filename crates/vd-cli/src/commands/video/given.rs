//! The input video in the model's format: pixels, or numbers in their own unit.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use tch::Tensor;
use vd_data::{AnyClip, Clip, DataConfig, FloatClip, Media};
use vd_tensor_ops::video::from_u8;

use crate::model::Model;

/// The share of numbers outside the range of the training data above which a video is suspect.
const FOREIGN: f64 = 0.1;

/// Reads the video with the channels of the model, in the unit of its training data.
pub(super) fn read(path: &Path, model: &Model) -> Result<AnyClip> {
    let channels = model.config().channels;
    if model.normaliser.is_none() {
        return pixels(path, channels).map(AnyClip::Bytes);
    }
    let (data, fps) = (model.checkpoint.config.data.as_ref(), model.checkpoint.geometry().fps);
    let arrays = data.map(DataConfig::arrays).unwrap_or_default();
    let mut clip = Media::at_with(path, &arrays)?.decode_floats(channels as usize, None, fps)?;
    if let Some(invalid) = data.and_then(|data| data.invalid) {
        clip.forget(invalid);
    }
    if let Some(share) = outside(&clip, model)?.filter(|share| *share > FOREIGN) {
        tracing::warn!(
            "{}: {:.0} % of its numbers lie outside the range of the training data: is it in the \
             same unit?",
            path.display(),
            100.0 * share
        );
    }
    Ok(AnyClip::Floats(clip))
}

/// The share of a clip's numbers outside the range of the training data; `None` if either is unknown.
fn outside(clip: &FloatClip, model: &Model) -> Result<Option<f64>> {
    let Some(normaliser) = &model.normaliser else { return Ok(None) };
    let Some(limits) = normaliser.limits() else { return Ok(None) };
    let mut clip = clip.clone();
    normaliser.apply(&mut clip)?;
    let (mut there, mut out) = (0u64, 0u64);
    for pixel in clip.values.chunks_exact(limits.len()) {
        for (value, [low, high]) in pixel.iter().zip(&limits) {
            let value = f64::from(*value);
            there += u64::from(value.is_finite());
            out += u64::from(value.is_finite() && !(*low..=*high).contains(&value));
        }
    }
    Ok((there > 0).then(|| out as f64 / there as f64))
}

fn pixels(path: &Path, channels: i64) -> Result<Clip> {
    let name = path.display();
    let decode = |c: usize| vd_data::decode(path, c).with_context(|| name.to_string());
    match channels {
        3 => decode(3),
        1 => {
            let is_grey = |pixel: &[u8]| pixel.iter().all(|part| *part == pixel[0]);
            ensure!(
                decode(3)?.frames.chunks_exact(3).all(is_grey),
                "{name}: in colour, but this model draws grey frames; convert it to grey, or use \
                 a model of 3 channels"
            );
            decode(1)
        }
        _ => bail!(
            "this model draws {channels} channels; videos have 1 (grey) or 3 (red, green, blue)"
        ),
    }
}

/// A clip in the range of the diffusion process, 1 c f h w; missing values are 0.
pub(super) fn tensor(clip: &AnyClip, model: &Model) -> Result<Tensor> {
    let shape = clip.shape().map(|n| n as i64);
    let frames = match (clip, &model.normaliser) {
        (AnyClip::Floats(clip), Some(normaliser)) => {
            let mut clip = clip.clone();
            normaliser.apply(&mut clip)?;
            let numbers = Tensor::f_from_slice(&clip.values)?.f_nan_to_num(0.0, 0.0, 0.0)?;
            numbers.f_view(shape)?.f_permute([3, 0, 1, 2])?.f_contiguous()?
        }
        (AnyClip::Bytes(clip), _) => {
            let frames = Tensor::f_from_slice(&clip.frames)?.f_view(shape)?; // f h w c
            from_u8(&frames.f_permute([3, 0, 1, 2])?.f_contiguous()?)
        }
        (AnyClip::Floats(_), None) => bail!("numbers for a model of pixels"),
    };
    Ok(frames.f_unsqueeze(0)?)
}

/// Which pixels have no missing values (f h w); `None` if all of them.
pub(super) fn present(clip: &AnyClip) -> Option<Vec<bool>> {
    let clip: &FloatClip = clip.floats()?;
    let all = |pixel: &[f32]| pixel.iter().all(|number| number.is_finite());
    let present: Vec<bool> = clip.values.chunks_exact(clip.c).map(all).collect();
    present.contains(&false).then_some(present)
}
