//! The file formats of clips.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ArrayFormat, array, fresh};
use super::{gif_fps, webp_fps, write_frames, write_gif, write_mp4, write_webp};
use crate::{Clip, Result};

/// A format that a clip can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClipFormat {
    /// 256 colours; supported everywhere.
    Gif,
    /// Animated WebP, lossless.
    WebP,
    /// H.264; needs ffmpeg.
    Mp4,
    /// A folder of PNG frames, lossless.
    Png,
    /// NumPy: u8, f h w c.
    Npy,
    /// u8, f h w c, with the rate.
    Safetensors,
}

impl ClipFormat {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Gif, Self::WebP, Self::Mp4, Self::Png, Self::Npy, Self::Safetensors];

    /// Its name, which is also its file extension.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gif => "gif",
            Self::WebP => "webp",
            Self::Mp4 => "mp4",
            Self::Png => "png",
            Self::Npy => "npy",
            Self::Safetensors => "safetensors",
        }
    }

    /// The format of a file, from its extension; frames are a folder, not a file.
    pub fn of_name(path: &Path) -> Option<Self> {
        let ending = crate::decode::extension(path);
        Self::ALL.into_iter().find(|format| !format.is_folder() && format.name() == ending)
    }

    /// Whether a clip is written as a folder.
    pub fn is_folder(self) -> bool {
        self == Self::Png
    }

    /// Whether every pixel is kept exactly, whatever its colour.
    pub fn is_exact(self) -> bool {
        !matches!(self, Self::Gif | Self::Mp4)
    }

    /// The array format, if it is one and not a picture format.
    pub fn array(self) -> Option<ArrayFormat> {
        match self {
            Self::Npy => Some(ArrayFormat::Npy),
            Self::Safetensors => Some(ArrayFormat::Safetensors),
            Self::Gif | Self::WebP | Self::Mp4 | Self::Png => None,
        }
    }

    /// The path of a clip for a name without extension.
    pub fn path(self, stem: &Path) -> PathBuf {
        if self.is_folder() {
            return stem.to_path_buf();
        }
        // not with_extension: a dot in the name does not start an extension
        let mut name = stem.as_os_str().to_os_string();
        name.push(".");
        name.push(self.name());
        PathBuf::from(name)
    }

    /// The rate at which a clip of `asked` frames per second is shown.
    pub fn fps(self, asked: f64) -> f64 {
        match self {
            Self::Gif => gif_fps(asked),
            Self::WebP => webp_fps(asked),
            Self::Mp4 | Self::Png | Self::Npy | Self::Safetensors => asked,
        }
    }

    /// Writes a clip atomically; an existing file or folder is replaced.
    ///
    /// # Errors
    /// As the writer of the format; a folder that contains anything other than frames.
    pub fn write(self, path: &Path, clip: &Clip) -> Result<()> {
        match self {
            Self::Gif => write_gif(path, clip),
            Self::WebP => write_webp(path, clip),
            Self::Mp4 => write_mp4(path, clip),
            Self::Png => fresh::folder(path, |folder| write_frames(folder, clip).map(drop)),
            Self::Npy => array::write_clip(path, ArrayFormat::Npy, clip),
            Self::Safetensors => array::write_clip(path, ArrayFormat::Safetensors, clip),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_endings_and_frames_are_a_folder() {
        for format in ClipFormat::ALL {
            let path = format.path(Path::new("a/clip.1"));
            let found = ClipFormat::of_name(&path);
            assert_eq!(found, (format != ClipFormat::Png).then_some(format), "{path:?}");
        }
        assert_eq!(ClipFormat::of_name(Path::new("a.WEBP")), Some(ClipFormat::WebP));
        assert_eq!(ClipFormat::Png.path(Path::new("a/b")), Path::new("a/b"));
        assert_eq!(ClipFormat::of_name(Path::new("gif")), None);
    }
}
