//! The destination of clips: a folder with separate files for each, or files with all of them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tch::Tensor;
use vd_data::{Clip, ClipFormat, Dtype, grid, picture, tile};
use vd_tensor_ops::write_atomically;

use super::plan::Plan;
use crate::commands::drawing::Left;
use crate::commands::formats::{self, Files};
use crate::commands::numbers::{self, Array, Numbers};
use crate::model::Model;
use crate::output::Usage;

/// The destination of clips.
#[derive(Debug)]
pub(super) struct Target<'a> {
    out: &'a Path,
    clips: Clips,
    /// An additional file with all clips above their captions.
    grid: Option<(ClipFormat, &'a Path)>,
    /// The numbers that arrays contain instead of pixels.
    numbers: Option<Numbers>,
}

#[derive(Debug)]
enum Clips {
    /// All in one picture.
    Together(Files),
    /// Each in its own files, in a folder.
    Each(Vec<ClipFormat>),
}

impl<'a> Target<'a> {
    pub(super) fn of(
        out: &'a Path,
        formats: &[ClipFormat],
        grid: Option<&'a Path>,
    ) -> Result<Self> {
        let clips = match formats::of_file(out, formats)? {
            Some(files) => Clips::Together(files),
            None => Clips::Each(formats.to_vec()),
        };
        let target = Target { out, clips, grid: grid.map(shown).transpose()?, numbers: None };
        formats::check(target.formats())?;
        Ok(target)
    }

    /// Adapts it to the model: for a model of arrays, array files contain numbers. By default a
    /// folder gets GIFs, and for a model of arrays `.npy` files too.
    pub(super) fn of_model(mut self, model: &Model, dtype: Option<Dtype>) -> Result<Self> {
        self.numbers = Numbers::of(model, dtype)?;
        if let Clips::Each(formats) = &mut self.clips
            && formats.is_empty()
        {
            formats.push(ClipFormat::Gif);
            if self.numbers.is_some() {
                formats.push(ClipFormat::Npy);
            }
        }
        if let Some(numbers) = &self.numbers {
            numbers.check(&self.formats().collect::<Vec<_>>(), dtype)?;
        }
        Ok(self)
    }

    /// All formats that are written.
    pub(super) fn formats(&self) -> impl Iterator<Item = ClipFormat> {
        let clips: Vec<ClipFormat> = match &self.clips {
            Clips::Together(files) => files.iter().map(|(format, _)| *format).collect(),
            Clips::Each(formats) => formats.clone(),
        };
        clips.into_iter().chain(self.grid.map(|(format, _)| format))
    }

    /// The rate at which clips requested at `asked` are shown: that of the first format.
    pub(super) fn fps(&self, asked: f64) -> f64 {
        self.formats().next().map_or(asked, |format| format.fps(asked))
    }

    /// Refuses clips that cannot share one file.
    pub(super) fn check(&self, plan: &Plan) -> Result<()> {
        let Clips::Together(files) = &self.clips else { return Ok(()) };
        plan.check_one_picture()?;
        match files.iter().find(|(format, _)| format.array().is_some()) {
            Some((_, file)) if plan.clips() > 1 => Err(Usage(format!(
                "--out {}: holds one clip, but {} were requested; give a folder with --format",
                file.display(),
                plan.clips()
            ))
            .into()),
            _ => Ok(()),
        }
    }

    /// Creates the folders.
    pub(super) fn prepare(&self) -> Result<()> {
        if let Some((format, file)) = self.grid {
            formats::make_folders_of(&[(format, file.to_path_buf())])?;
        }
        match &self.clips {
            Clips::Together(files) => formats::make_folders_of(files),
            Clips::Each(_) => formats::make_folder(self.out),
        }
    }

    /// A writer for clips (n c f h w, f32, in the model's range), in order; a folder gets each one
    /// at once.
    pub(super) fn writer(&'a self, plan: &'a Plan, seed: u64) -> Writer<'a> {
        Writer {
            target: self,
            plan,
            seed,
            files: Vec::new(),
            kept: Vec::new(),
            together: Vec::new(),
            array: None,
        }
    }
}

/// A file that shows many clips to people.
fn shown(path: &Path) -> Result<(ClipFormat, &Path)> {
    let known = [ClipFormat::Gif, ClipFormat::WebP, ClipFormat::Mp4];
    match ClipFormat::of_name(path).filter(|format| known.contains(format)) {
        Some(format) => Ok((format, path)),
        None => {
            let why = format!("--grid {}: expected FILE.gif, .webp or .mp4", path.display());
            Err(Usage(why).into())
        }
    }
}

/// Writes clips to the disk.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    target: &'a Target<'a>,
    plan: &'a Plan,
    seed: u64,
    /// The files of each clip.
    files: Vec<Vec<PathBuf>>,
    /// The clips that share a picture.
    together: Vec<Tensor>,
    /// The numbers of the clip that has an array file.
    array: Option<Array>,
    /// The clips shown in a grid, with their captions.
    kept: Vec<(Clip, String)>,
}

impl Writer<'_> {
    /// How many clips there are.
    pub(super) fn clips(&self) -> usize {
        self.files.len()
    }

    pub(super) fn add(&mut self, videos: &Tensor) -> Result<()> {
        let (target, fps) = (self.target, self.plan.fps);
        let numbers = target.numbers.as_ref();
        let pictures = picture(videos, numbers.map(Numbers::normaliser))?;
        let numbers = numbers.filter(|_| target.formats().any(|format| format.array().is_some()));
        for k in 0..videos.size()[0] {
            let pixels = pictures.f_get(k)?;
            let of_clip = |numbers: &Numbers| numbers.of_clip(&videos.f_get(k)?, fps);
            let array = numbers.map(of_clip).transpose()?;
            self.add_one(&Clip::from_tensor(&pixels, fps)?, array.as_ref())?;
            if let Clips::Together(_) = target.clips {
                self.together.push(pixels);
                self.array = array;
            }
        }
        Ok(())
    }

    fn add_one(&mut self, clip: &Clip, numbers: Option<&Array>) -> Result<()> {
        let number = self.files.len();
        let prompt = self.plan.prompt(number);
        let files = match &self.target.clips {
            Clips::Together(files) => files.iter().map(|(_, file)| file.clone()).collect(),
            Clips::Each(formats) => {
                let seed = self.plan.seed(number).unwrap_or(self.seed);
                let stem = self.target.out.join(format!("seed-{seed}-clip-{number:05}"));
                let mut files = Vec::with_capacity(formats.len());
                for format in formats {
                    if number == 0 {
                        formats::announce_padding(*format, clip);
                    }
                    let file = format.path(&stem);
                    numbers::write(*format, &file, clip, numbers, self.plan.fps)?;
                    files.push(file);
                }
                write_caption(&stem.with_extension("txt"), prompt.as_deref())?;
                files
            }
        };
        self.files.push(files);
        if self.target.grid.is_some() {
            let caption = prompt.unwrap_or_else(|| format!("clip {number}"));
            self.kept.push((clip.clone(), caption));
        }
        Ok(())
    }

    /// What was written if sampling ends here; clips that share a picture are written first.
    pub(super) fn broken_off(&mut self) -> Left<'_> {
        let written = self.write_pictures();
        if let Err(error) = &written {
            tracing::warn!("{}: {error:#}", self.target.out.display());
        }
        let lost = written.is_err() && matches!(self.target.clips, Clips::Together(_));
        let done = if lost { 0 } else { self.files.len() };
        Left { out: self.target.out, done, of: self.plan.clips(), noun: "clip" }
    }

    /// The files of each clip.
    pub(super) fn finish(mut self) -> Result<Vec<Vec<PathBuf>>> {
        self.write_pictures()?;
        Ok(self.files)
    }

    /// Writes the files that show several clips.
    fn write_pictures(&mut self) -> Result<()> {
        if let (Clips::Together(files), false) = (&self.target.clips, self.together.is_empty()) {
            let clips = Tensor::f_stack(&self.together, 0)?;
            let picture = Clip::from_tensor(&tile(&clips, self.plan.columns())?, self.plan.fps)?;
            for (format, file) in files {
                formats::announce_padding(*format, &picture);
                numbers::write(*format, file, &picture, self.array.as_ref(), self.plan.fps)?;
            }
        }
        if let (Some((format, file)), false) = (self.target.grid, self.kept.is_empty()) {
            let picture = grid(&self.kept, self.plan.columns())?;
            formats::announce_padding(format, &picture);
            formats::write(format, file, &picture, self.plan.fps)?;
        }
        Ok(())
    }
}

/// Writes the prompt beside its clip; without a prompt, removes that of an older clip.
fn write_caption(path: &Path, prompt: Option<&str>) -> Result<()> {
    if let Some(prompt) = prompt {
        return Ok(write_atomically(path, format!("{prompt}\n").as_bytes())?);
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| path.display().to_string())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn formats_are_those_of_the_flag_or_of_the_name() {
        let formats = |out: &str, formats: &[ClipFormat]| {
            Target::of(Path::new(out), formats, None).unwrap().formats().collect::<Vec<_>>()
        };
        // the model determines the formats in a folder
        assert_eq!(formats("clips", &[]), []);
        assert_eq!(formats("clips", &[ClipFormat::Npy]), [ClipFormat::Npy]);
        assert_eq!(formats("clip.webp", &[]), [ClipFormat::WebP]);
        let grid = Target::of(Path::new("clips"), &[], Some(Path::new("all.npy"))).unwrap_err();
        assert!(grid.is::<Usage>() && grid.to_string().contains(".webp or .mp4"), "{grid}");
    }
}
