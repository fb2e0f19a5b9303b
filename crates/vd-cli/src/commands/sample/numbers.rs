//! The numbers of clips, in the unit that they were learned in, beside their pictures.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tch::Tensor;
use vd_data::{ArrayFormat, Dtype, FloatClip, Normaliser, write_array};

use crate::args::SampleArgs;
use crate::model::Model;
use crate::output::Usage;

/// How numbers are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    format: ArrayFormat,
    dtype: Dtype,
}

impl Format {
    /// What the flags and the name of the file ask for; `.npy` for a model of numbers, where they ask
    /// for nothing, and none for a model of pixels.
    pub(super) fn of(args: &SampleArgs, out: &Path, model: &Model) -> Result<Option<Self>> {
        let asked = args.numbers.or_else(|| named(out));
        let format = asked.or_else(|| model.normaliser.as_ref().map(|_| ArrayFormat::Npy));
        if let (Some(dtype), None) = (args.dtype, format) {
            let why =
                format!("--dtype {dtype}: this model draws pixels; give --numbers npy for them");
            return Err(Usage(why).into());
        }
        let dtype = args.dtype.unwrap_or(Dtype::F32);
        Ok(format.map(|format| Self { format, dtype }))
    }

    /// Where the numbers of a picture lie.
    fn beside(self, picture: &Path) -> PathBuf {
        picture.with_extension(self.format.ending())
    }

    fn write(self, picture: &Path, shape: &[usize], values: &[f32]) -> Result<PathBuf> {
        let path = self.beside(picture);
        write_array(&path, self.format, self.dtype, shape, values)?;
        Ok(path)
    }
}

/// The format that the name of a file asks for.
fn named(out: &Path) -> Option<ArrayFormat> {
    let ending = out.extension()?.to_str()?.to_lowercase();
    ending.parse().ok().filter(|_| !out.is_dir())
}

/// Where pictures go: beside the numbers, where a file of these is asked for.
pub(super) fn pictures(out: &Path) -> PathBuf {
    match named(out) {
        Some(_) => out.with_extension("gif"),
        None => out.to_path_buf(),
    }
}

/// Writes numbers as their pictures come.
#[derive(Debug)]
pub(super) struct Numbers {
    format: Format,
    normaliser: Normaliser,
    /// Those of clips that share a picture, f h w c each.
    together: Vec<FloatClip>,
    files: Vec<PathBuf>,
}

impl Numbers {
    pub(super) fn new(format: Format, model: &Model) -> Self {
        let bytes = || Normaliser::bytes(model.config().channels as usize);
        let normaliser = model.normaliser.clone().unwrap_or_else(bytes);
        Self { format, normaliser, together: Vec::new(), files: Vec::new() }
    }

    /// Takes clips (n c f h w, f32); those that have a picture each are written beside it.
    pub(super) fn add(&mut self, videos: &Tensor, pictures: &[PathBuf], fps: f64) -> Result<()> {
        for k in 0..videos.size()[0] {
            let mut clip = FloatClip::from_tensor(&videos.f_get(k)?, fps)?;
            self.normaliser.undo(&mut clip)?;
            match pictures.get(k as usize) {
                Some(picture) => {
                    let file = self.format.write(picture, &clip.shape(), &clip.values)?;
                    self.files.push(file);
                }
                None => self.together.push(clip),
            }
        }
        Ok(())
    }

    /// The file of each clip; those that share a picture share a file, n f h w c.
    pub(super) fn finish(self, picture: &Path) -> Result<Vec<PathBuf>> {
        let Some(first) = self.together.first() else { return Ok(self.files) };
        let shape: Vec<usize> = [self.together.len()].into_iter().chain(first.shape()).collect();
        let values: Vec<f32> =
            self.together.iter().flat_map(|clip| clip.values.iter().copied()).collect();
        let file = self.format.write(picture, &shape, &values)?;
        Ok(vec![file; self.together.len()])
    }
}
