//! Where the result goes.

use std::path::Path;

use anyhow::Result;
use tch::Tensor;
use vd_data::{Clip, write_frames, write_gif_keeping};

use crate::commands::sample::Target;
use crate::folder;

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

    /// Writes a video (c f h w, u8) of which some pixels are known (f h w), and says whether all
    /// of these are as they were.
    pub(super) fn write(&self, video: &Tensor, fps: f64, known: &[bool]) -> Result<bool> {
        let clip = Clip::from_tensor(video, fps)?;
        match self.0 {
            Target::Folder(folder) => {
                write_frames(folder, &clip)?;
                Ok(true)
            }
            Target::File(file) => {
                let exact = write_gif_keeping(file, &clip, known)?;
                if !exact {
                    tracing::warn!(
                        "{}: a GIF holds 256 colours a frame, and some frame has more that are known: they were rounded; --out with a folder writes PNG frames, which hold all",
                        file.display()
                    );
                }
                Ok(exact)
            }
        }
    }
}
