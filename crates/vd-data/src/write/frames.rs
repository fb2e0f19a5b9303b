//! Writes clips as folders of pictures, one per frame.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{ExtendedColorType, ImageFormat};

use super::write_file;
use crate::{Clip, Error, Result};

/// Writes every frame as a lossless PNG, frame-00000.png and so on.
///
/// The folder must exist. Returns the files.
///
/// # Errors
/// A clip that is not valid; a file that cannot be written.
pub fn write_frames(folder: &Path, clip: &Clip) -> Result<Vec<PathBuf>> {
    write_frames_from(folder, 0, clip)
}

/// Writes the frames of a part of a video like [`write_frames`], numbered from `first` on.
///
/// Each file is written atomically. If writing is interrupted, the folder holds the frames up to
/// some number: a shorter but valid video.
///
/// # Errors
/// As [`write_frames`].
pub fn write_frames_from(folder: &Path, first: usize, clip: &Clip) -> Result<Vec<PathBuf>> {
    clip.check()?;
    let colour = if clip.c == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let write = |index: usize| {
        let file = folder.join(format!("frame-{:05}.png", first + index));
        let mut bytes = Cursor::new(Vec::new());
        let (w, h) = (clip.w as u32, clip.h as u32);
        image::write_buffer_with_format(
            &mut bytes,
            clip.frame(index),
            w,
            h,
            colour,
            ImageFormat::Png,
        )
        .map_err(|e| Error::write(&file, std::io::Error::other(e)))?;
        write_file(&file, &bytes.into_inner())?;
        Ok(file)
    };
    (0..clip.f).map(write).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::random::{Purpose, Stream};

    #[test]
    fn frames_come_back_as_they_were() {
        let mut stream = Stream::new(Purpose::Sample, 3, 0, 0);
        for c in [1, 3] {
            let bytes = (0..12 * 5 * 7 * c).map(|_| stream.below(256) as u8).collect();
            let clip = Clip::new(bytes, [12, 5, 7, c], crate::UNSTATED_FPS).unwrap();
            let folder = tempfile::tempdir().unwrap();
            assert_eq!(write_frames(folder.path(), &clip).unwrap().len(), 12);
            assert_eq!(crate::decode(folder.path(), c).unwrap(), clip);
            let parts = tempfile::tempdir().unwrap();
            for part in [0..5, 5..11, 11..12] {
                let first = part.start;
                let part = clip.pick(&part.collect::<Vec<_>>());
                write_frames_from(parts.path(), first, &part).unwrap();
            }
            assert_eq!(crate::decode(parts.path(), c).unwrap(), clip);
        }
    }
}
