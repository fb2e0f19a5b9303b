//! Where the result goes.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tch::Tensor;
use vd_data::{Clip, ClipFormat, write_frames_from, write_gif_keeping};
use vd_tensor_ops::video;

use crate::commands::drawing::Left;
use crate::commands::formats::{self, Files};
use crate::folder;

/// From so many windows on, somebody may not want to wait for all of them.
const MANY_WINDOWS: usize = 200;

/// Files that are written at the end, or a folder of frames.
#[derive(Debug)]
pub(super) enum Output<'a> {
    Files(Files),
    Frames(&'a Path),
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
            // Frames of a longer video that lay there before would go on behind these.
            folder::check_new(out)?;
            return Ok(Output::Frames(out));
        };
        formats::check(files.iter().map(|(format, _)| *format))?;
        for (_, frames) in files.iter().filter(|(format, _)| format.is_folder()) {
            folder::check_new(frames)?;
        }
        Ok(Output::Files(files))
    }

    /// The files, or the folder.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        match self {
            Output::Files(files) => files.iter().map(|(_, file)| file.clone()).collect(),
            Output::Frames(folder) => vec![folder.to_path_buf()],
        }
    }

    /// Makes the folders.
    pub(super) fn prepare(&self) -> Result<()> {
        match self {
            Output::Files(files) => formats::make_folders_of(files),
            Output::Frames(folder) => formats::make_folder(folder),
        }
    }

    /// The rate of the result, where so many frames per second are asked for: that of the first
    /// format.
    pub(super) fn fps(&self, asked: f64) -> f64 {
        match self {
            Output::Files(files) => files.first().map_or(asked, |(format, _)| format.fps(asked)),
            Output::Frames(_) => asked,
        }
    }

    /// Says what is doubtful about so many windows at this rate.
    pub(super) fn announce(&self, windows: usize, asked: f64) {
        let Output::Files(files) = self else { return };
        formats::announce_rates(files.iter().map(|(format, _)| *format), asked);
        if let (Some((_, file)), true) = (files.first(), windows > MANY_WINDOWS) {
            tracing::warn!(
                "{}: is written when the last of {windows} windows is drawn, and what is broken off before is lost; --out with a folder gets every frame as soon as it is final",
                file.display()
            );
        }
    }

    /// Takes the frames of a video of which some pixels are known (f h w).
    pub(super) fn writer(&'a self, fps: f64, known: &'a [bool]) -> Writer<'a> {
        Writer { output: self, fps, known, together: Vec::new(), written: 0 }
    }
}

/// Frames on their way to the disk.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    output: &'a Output<'a>,
    /// What is asked for.
    fps: f64,
    known: &'a [bool],
    /// Those that share a file.
    together: Vec<Tensor>,
    /// How many have a file of their own.
    written: usize,
}

impl Writer<'_> {
    /// Takes the next frames, 1 c f h w in [-1, 1]; a folder gets them at once.
    pub(super) fn add(&mut self, frames: &Tensor) -> Result<()> {
        let frames = video::to_u8(frames);
        let Output::Frames(folder) = self.output else {
            self.together.push(frames);
            return Ok(());
        };
        let clip = Clip::from_tensor(&frames.f_get(0)?, self.fps)?;
        self.written += write_frames_from(folder, self.written, &clip)?.len();
        Ok(())
    }

    /// What there is of a video of so many frames, if it ends here.
    pub(super) fn left(&self, of: usize) -> Left<'_> {
        let out = match self.output {
            Output::Files(files) => files.first().map_or(Path::new(""), |(_, file)| file),
            Output::Frames(folder) => folder,
        };
        Left { out, done: self.written, of, noun: "frame" }
    }

    /// Whether all known pixels are as they were; nothing where none are known.
    pub(super) fn finish(self) -> Result<Option<bool>> {
        let held = self.known.contains(&true);
        let Output::Files(files) = self.output else { return Ok(held.then_some(true)) };
        let frames = Tensor::f_cat(&self.together, 2)?.f_get(0)?; // c f h w
        let clip = Clip::from_tensor(&frames, self.fps)?;
        let mut exact = true;
        for (format, file) in files {
            formats::announce_padding(*format, &clip);
            exact &= self.write(*format, file, &clip, held)?;
        }
        Ok(held.then_some(exact))
    }

    /// Writes one file; whether its known pixels are as they were.
    fn write(&self, format: ClipFormat, file: &Path, clip: &Clip, held: bool) -> Result<bool> {
        let name = file.display();
        match format {
            ClipFormat::Gif => {
                let clip = formats::at_rate(format, clip, self.fps);
                let exact = write_gif_keeping(file, &clip, self.known)?;
                if !exact {
                    tracing::warn!(
                        "{name}: a GIF holds 256 colours a frame, and some frame has more that are known: they were rounded; --format webp holds all, and so do the PNG frames of --out with a folder"
                    );
                }
                Ok(exact)
            }
            _ => {
                formats::write(format, file, clip, self.fps)?;
                if held && !format.is_exact() {
                    tracing::warn!(
                        "{name}: an MP4 is compressed with loss, so that what is known is nearly as it was; --format webp holds it as it is"
                    );
                }
                Ok(format.is_exact())
            }
        }
    }
}
