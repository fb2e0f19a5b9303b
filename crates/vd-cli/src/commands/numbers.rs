//! Clips of numbers, from a model of arrays, in the unit of its training data.

use std::cell::Cell;
use std::path::Path;

use anyhow::Result;
use tch::Tensor;
use vd_data::{ArrayFormat, Clip, ClipFormat, Dtype, FloatClip, Normaliser, write_floats};

use crate::commands::formats;
use crate::model::Model;
use crate::output::Usage;

/// The numbers in the arrays of a model of numbers.
#[derive(Debug)]
pub(crate) struct Numbers {
    normaliser: Normaliser,
    dtype: Dtype,
    /// Whether it was said that numbers overflow.
    told: Cell<bool>,
}

impl Numbers {
    /// The meaning of --dtype for a model; `None` for a model of pixels, which are stored as u8.
    pub(crate) fn of(model: &Model, dtype: Option<Dtype>) -> Result<Option<Self>> {
        match (&model.normaliser, dtype) {
            (Some(normaliser), dtype) => {
                let dtype = dtype.unwrap_or(Dtype::F32);
                Ok(Some(Self { normaliser: normaliser.clone(), dtype, told: Cell::new(false) }))
            }
            (None, None) => Ok(None),
            (None, Some(dtype)) => Err(Usage(format!(
                "--dtype {dtype}: this model draws pixels, which npy and safetensors store as u8; omit \
                 --dtype"
            ))
            .into()),
        }
    }

    /// Refuses formats that cannot store them, and a dtype that no format uses.
    pub(crate) fn check(&self, formats: &[ClipFormat], asked: Option<Dtype>) -> Result<()> {
        let arrays: Vec<_> = formats.iter().filter_map(|format| format.array()).collect();
        let why = match asked {
            Some(dtype) if arrays.is_empty() => {
                format!("--dtype {dtype}: only npy and safetensors hold numbers; give --format npy")
            }
            _ if self.dtype == Dtype::Bf16 && arrays.contains(&ArrayFormat::Npy) => {
                "--dtype bf16: npy has no such type; give --format safetensors, or f16 or f32"
                    .to_owned()
            }
            _ => return Ok(()),
        };
        Err(Usage(why).into())
    }

    /// The mapping back to their unit.
    pub(crate) fn normaliser(&self) -> &Normaliser {
        &self.normaliser
    }

    /// The numbers of a clip (c f h w, f32) in their unit.
    pub(crate) fn of_clip(&self, clip: &Tensor, fps: f64) -> Result<Array> {
        let mut clip = FloatClip::from_tensor(clip, fps)?;
        self.normaliser.undo(&mut clip)?;
        self.tell_of_overflows(&clip)?;
        Ok(Array { clip, dtype: self.dtype })
    }

    /// Warns at the first clip of which numbers overflow, which may happen where no threshold holds them.
    fn tell_of_overflows(&self, clip: &FloatClip) -> Result<()> {
        let over = self.normaliser.overflows(clip)?;
        if over == 0 || self.told.replace(true) {
            return Ok(());
        }
        let what = match self.normaliser.ranges().contains(&None) {
            false => "leave --threshold out, to keep clips within the range of the training data",
            true => {
                "this checkpoint does not know the range of its data; try --threshold dynamic or static, \
                 or train again, with diffusion.parameterization = \"v\" if few steps are to be enough"
            }
        };
        tracing::warn!(
            "{:.3} % of the numbers of a clip overflow in the unit of the data: they are not finite, the \
             largest that f32 holds, or at the limit of the logarithm, and mean nothing; {what}",
            100.0 * over as f64 / clip.values.len().max(1) as f64
        );
        Ok(())
    }
}

/// The numbers of a clip, and the dtype in which they are written.
#[derive(Debug)]
pub(crate) struct Array {
    clip: FloatClip,
    dtype: Dtype,
}

impl Array {
    /// Restores the pixels that are `known` (f h w), of a clip whose frames are at `places`.
    pub(crate) fn keep(&mut self, clip: &FloatClip, places: &[usize], known: &[bool]) {
        let (pixels, c) = (self.clip.h * self.clip.w, self.clip.c);
        for (frame, place) in places.iter().enumerate() {
            let old = clip.frame(frame).chunks_exact(c);
            let new = self.clip.values[place * pixels * c..].chunks_exact_mut(c);
            for ((new, old), known) in new.zip(old).zip(&known[place * pixels..]) {
                if *known {
                    new.copy_from_slice(old);
                }
            }
        }
    }

    /// Whether files store its numbers exactly.
    pub(crate) fn is_exact(&self) -> bool {
        matches!(self.dtype, Dtype::F32 | Dtype::F64)
    }
}

/// Writes a clip in a format, at the rate that the format supports: for a clip of numbers, the
/// numbers if the format is an array, else a picture of them.
pub(crate) fn write(
    format: ClipFormat,
    path: &Path,
    shown: &Clip,
    numbers: Option<&Array>,
    fps: f64,
) -> Result<()> {
    match (format.array(), numbers) {
        (Some(array), Some(numbers)) => {
            Ok(write_floats(path, array, numbers.dtype, &numbers.clip)?)
        }
        _ => formats::write(format, path, shown, fps),
    }
}
