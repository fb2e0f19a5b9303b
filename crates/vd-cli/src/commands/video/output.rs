//! Where the result goes.

use std::path::Path;

use anyhow::Result;
use tch::Tensor;
use vd_data::{Clip, write_frames_from, write_gif_keeping};
use vd_tensor_ops::video;

use crate::commands::drawing::Left;
use crate::commands::gif_rate;
use crate::commands::sample::Target;
use crate::folder;

/// From so many windows on, somebody may not want to wait for all of them.
const MANY_WINDOWS: usize = 200;

/// A GIF, or a folder of frames.
pub(super) struct Output<'a>(Target<'a>);

impl<'a> Output<'a> {
    pub(super) fn of(out: &'a Path) -> Result<Self> {
        let target = Target::of(out)?;
        if let Target::Folder(folder) = target {
            // Frames of a longer video that lay there before would go on behind these.
            folder::check_new(folder)?;
        }
        Ok(Output(target))
    }

    /// Makes the folders.
    pub(super) fn prepare(&self) -> Result<()> {
        self.0.prepare()
    }

    /// The rate of the result, where so many frames per second are asked for.
    pub(super) fn fps(&self, asked: f64) -> f64 {
        match self.0 {
            Target::File(_) => gif_rate(asked),
            Target::Folder(_) => asked,
        }
    }

    /// Says what is doubtful about so many windows.
    pub(super) fn announce(&self, windows: usize) {
        if let (Target::File(file), true) = (self.0, windows > MANY_WINDOWS) {
            tracing::warn!(
                "{}: is written when the last of {windows} windows is drawn, and what is broken off before is lost; --out with a folder gets every frame as soon as it is final",
                file.display()
            );
        }
    }

    /// Takes the frames of a video of which some pixels are known (f h w).
    pub(super) fn writer(&self, fps: f64, known: &'a [bool]) -> Writer<'a> {
        Writer { target: self.0, fps, known, together: Vec::new(), written: 0 }
    }
}

/// Frames on their way to the disk.
pub(super) struct Writer<'a> {
    target: Target<'a>,
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
        let Target::Folder(folder) = self.target else {
            self.together.push(frames);
            return Ok(());
        };
        let clip = Clip::from_tensor(&frames.f_get(0)?, self.fps)?;
        self.written += write_frames_from(folder, self.written, &clip)?.len();
        Ok(())
    }

    /// What there is of a video of so many frames, if it ends here.
    pub(super) fn left(&self, of: usize) -> Left<'_> {
        let (Target::File(out) | Target::Folder(out)) = self.target;
        Left { out, done: self.written, of, noun: "frame" }
    }

    /// Whether all known pixels are as they were; nothing where none are known.
    pub(super) fn finish(self) -> Result<Option<bool>> {
        let held = self.known.contains(&true);
        let Target::File(file) = self.target else { return Ok(held.then_some(true)) };
        let frames = Tensor::f_cat(&self.together, 2)?.f_get(0)?; // c f h w
        let exact = write_gif_keeping(file, &Clip::from_tensor(&frames, self.fps)?, self.known)?;
        if !exact {
            tracing::warn!(
                "{}: a GIF holds 256 colours a frame, and some frame has more that are known: they were rounded; --out with a folder writes PNG frames, which hold all",
                file.display()
            );
        }
        Ok(held.then_some(exact))
    }
}
