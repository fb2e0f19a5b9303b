//! The destination of the result.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tch::Tensor;
use vd_data::{AnyClip, Clip, ClipFormat, Dtype, picture, write_frames_from, write_gif_keeping};
use vd_tensor_ops::video;

use crate::commands::drawing::Left;
use crate::commands::formats::{self, Files};
use crate::commands::numbers::{self, Numbers};
use crate::folder;
use crate::model::Model;
use crate::output::Usage;

/// From this many windows on, waiting for all of them may be too long.
const MANY_WINDOWS: usize = 200;

/// Files that are written at the end, or a folder of frames.
#[derive(Debug)]
pub(super) enum Output<'a> {
    Files(Files),
    Frames(&'a Path),
    /// Files: arrays contain these numbers, the other formats show them.
    Numbers(Files, Numbers),
}

/// The known part of a result.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept<'a> {
    /// The video as read.
    pub(super) clip: &'a AnyClip,
    /// The positions of its frames in the result.
    pub(super) places: &'a [usize],
    /// Which pixels of the result are known: f h w.
    pub(super) known: &'a [bool],
}

impl<'a> Output<'a> {
    pub(super) fn of(out: &'a Path, formats: &[ClipFormat]) -> Result<Self> {
        let files = match formats::of_file(out, formats)? {
            Some(files) => Some(files),
            None if formats.iter().all(|format| *format == ClipFormat::Png) => None,
            None => Some(formats.iter().map(|format| (*format, format.path(out))).collect()),
        };
        formats::check(formats.iter().copied())?;
        let Some(files) = files else {
            // Frames of an older, longer video would otherwise seem to continue this one.
            folder::check_new(out)?;
            return Ok(Output::Frames(out));
        };
        formats::check(files.iter().map(|(format, _)| *format))?;
        for (_, frames) in files.iter().filter(|(format, _)| format.is_folder()) {
            folder::check_new(frames)?;
        }
        Ok(Output::Files(files))
    }

    /// Adapts it to the model: for a model of arrays, array files contain numbers.
    pub(super) fn of_model(self, model: &Model, dtype: Option<Dtype>) -> Result<Self> {
        let Some(numbers) = Numbers::of(model, dtype)? else { return Ok(self) };
        let files = match self {
            Output::Files(files) | Output::Numbers(files, _) => files,
            Output::Frames(folder) => {
                let name = folder.display();
                return Err(Usage(format!(
                    "--out {name}: this model draws numbers, which PNG frames do not hold; give \
                     {name}.npy or .safetensors, with --format npy,gif to view them as well"
                ))
                .into());
            }
        };
        numbers.check(&files.iter().map(|(format, _)| *format).collect::<Vec<_>>(), dtype)?;
        Ok(Output::Numbers(files, numbers))
    }

    fn files(&self) -> Option<&Files> {
        match self {
            Output::Files(files) | Output::Numbers(files, _) => Some(files),
            Output::Frames(_) => None,
        }
    }

    /// The files, or the folder.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        match self {
            Output::Files(files) | Output::Numbers(files, _) => {
                files.iter().map(|(_, file)| file.clone()).collect()
            }
            Output::Frames(folder) => vec![folder.to_path_buf()],
        }
    }

    /// Creates the folders.
    pub(super) fn prepare(&self) -> Result<()> {
        match self {
            Output::Files(files) | Output::Numbers(files, _) => formats::make_folders_of(files),
            Output::Frames(folder) => formats::make_folder(folder),
        }
    }

    /// The rate of the result if `asked` frames per second are requested: that of the first format.
    pub(super) fn fps(&self, asked: f64) -> f64 {
        let first = self.files().and_then(|files| files.first());
        first.map_or(asked, |(format, _)| format.fps(asked))
    }

    /// Warns about this many windows at this rate.
    pub(super) fn announce(&self, windows: usize, asked: f64) {
        let Some(files) = self.files() else { return };
        formats::announce_rates(files.iter().map(|(format, _)| *format), asked);
        if let (Some((_, file)), true) = (files.first(), windows > MANY_WINDOWS) {
            tracing::warn!(
                "{}: is written only after the last of {windows} windows, and an interruption before that loses all frames; --out with a folder gets every frame as soon as it is final",
                file.display()
            );
        }
    }

    /// A writer for the frames of a result.
    pub(super) fn writer(&'a self, fps: f64, kept: Kept<'a>) -> Writer<'a> {
        Writer { output: self, fps, kept, together: Vec::new(), written: 0 }
    }
}

/// Writes frames to the disk.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    output: &'a Output<'a>,
    /// The requested rate.
    fps: f64,
    kept: Kept<'a>,
    /// The frames that share a file.
    together: Vec<Tensor>,
    /// The number of frames that have their own files.
    written: usize,
}

impl Writer<'_> {
    /// Adds the next frames, 1 c f h w in [-1, 1]; a folder gets them at once.
    pub(super) fn add(&mut self, frames: &Tensor) -> Result<()> {
        match self.output {
            Output::Numbers(..) => self.together.push(frames.shallow_clone()),
            Output::Files(_) => self.together.push(video::to_u8(frames)),
            Output::Frames(folder) => {
                let clip = Clip::from_tensor(&video::to_u8(frames).f_get(0)?, self.fps)?;
                self.written += write_frames_from(folder, self.written, &clip)?.len();
            }
        }
        Ok(())
    }

    /// What was written of a video of `of` frames, if it ends here.
    pub(super) fn left(&self, of: usize) -> Left<'_> {
        let out = match self.output {
            Output::Files(files) | Output::Numbers(files, _) => {
                files.first().map_or(Path::new(""), |(_, file)| file)
            }
            Output::Frames(folder) => folder,
        };
        Left { out, done: self.written, of, noun: "frame" }
    }

    /// Whether all known pixels are unchanged; `None` if none are known.
    pub(super) fn finish(self) -> Result<Option<bool>> {
        let held = self.kept.known.contains(&true);
        let exact = match self.output {
            Output::Frames(_) => true,
            Output::Files(files) => self.write_pixels(files, held)?,
            Output::Numbers(files, numbers) => self.write_numbers(files, numbers)?,
        };
        Ok(held.then_some(exact))
    }

    fn write_pixels(&self, files: &Files, held: bool) -> Result<bool> {
        let frames = Tensor::f_cat(&self.together, 2)?.f_get(0)?; // c f h w
        let clip = Clip::from_tensor(&frames, self.fps)?;
        let mut exact = true;
        for (format, file) in files {
            formats::announce_padding(*format, &clip);
            exact &= self.write(*format, file, &clip, held)?;
        }
        Ok(exact)
    }

    /// Writes numbers in their unit, known ones as they were read, and pictures of them; returns
    /// whether a file contains the known ones unchanged.
    fn write_numbers(&self, files: &Files, numbers: &Numbers) -> Result<bool> {
        let frames = Tensor::f_cat(&self.together, 2)?; // 1 c f h w
        let shown = picture(&frames, Some(numbers.normaliser()))?.f_get(0)?;
        let shown = Clip::from_tensor(&shown, self.fps)?;
        let mut array = numbers.of_clip(&frames.f_get(0)?, self.fps)?;
        let Kept { clip, places, known } = self.kept;
        if let Some(clip) = clip.floats() {
            array.keep(clip, places, known);
        }
        for (format, file) in files {
            formats::announce_padding(*format, &shown);
            numbers::write(*format, file, &shown, Some(&array), self.fps)?;
        }
        Ok(array.is_exact() && files.iter().any(|(format, _)| format.array().is_some()))
    }

    /// Writes one file; returns whether its known pixels are unchanged.
    fn write(&self, format: ClipFormat, file: &Path, clip: &Clip, held: bool) -> Result<bool> {
        let name = file.display();
        match format {
            ClipFormat::Gif => {
                let clip = formats::at_rate(format, clip, self.fps);
                let exact = write_gif_keeping(file, &clip, self.kept.known)?;
                if !exact {
                    tracing::warn!(
                        "{name}: a GIF holds 256 colours per frame, but the known pixels of a frame have more: they were rounded; --format webp and PNG frames (--out with a folder) keep all"
                    );
                }
                Ok(exact)
            }
            _ => {
                formats::write(format, file, clip, self.fps)?;
                if held && !format.is_exact() {
                    tracing::warn!(
                        "{name}: MP4 is lossy, so the known pixels are only approximately preserved; --format webp keeps them exactly"
                    );
                }
                Ok(format.is_exact())
            }
        }
    }
}
