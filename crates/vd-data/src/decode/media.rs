//! One video: a file or a folder of frames.

use std::path::{Path, PathBuf};

use image::DynamicImage;

use super::media_arrays::{bytes, no_frame};
use super::{
    Format, Probe, check_claim, check_size, ffmpeg, gif, is_still_name, pixels, png, single, sniff,
    still, undecodable, webp,
};
use crate::array::Array;
use crate::clip::{MAX_CLIP_BYTES, UNSTATED_FPS};
use crate::shards::Packed;
use crate::{Clip, Error, Result};

/// The location of a video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Media {
    /// One file: an animation, or a still image (one frame).
    File(PathBuf),
    /// A folder of still images, one per frame.
    Frames {
        /// The folder.
        folder: PathBuf,
        /// The frames in order, each with its full path.
        files: Vec<PathBuf>,
    },
    /// One clip of an array.
    Array(Array),
    /// A clip that was prepared.
    Packed(Packed),
}

impl Media {
    /// The video at `path`: the file itself, or the still images directly in the folder.
    ///
    /// # Errors
    /// When the folder cannot be listed or holds no still image.
    pub fn at(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            return Ok(Self::File(path.to_path_buf()));
        }
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|e| Error::read(path, e))? {
            let file = entry.map_err(|e| Error::read(path, e))?.path();
            let hidden =
                file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if !hidden && is_still_name(&file) && file.is_file() {
                files.push(file);
            }
        }
        if files.is_empty() {
            return Err(Error::damaged(
                path,
                "a folder of PNG, JPEG or WebP frames",
                "no such file in it",
            ));
        }
        files.sort_by(|a, b| crate::folder::natural_order(a, b));
        Ok(Self::Frames { folder: path.to_path_buf(), files })
    }

    /// The file or folder that identifies the video.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Frames { folder, .. } => folder,
            Self::Array(array) => array.path(),
            Self::Packed(packed) => packed.path(),
        }
    }

    /// The files that it consists of; none for a prepared clip.
    pub(crate) fn files(&self) -> &[PathBuf] {
        match self {
            Self::File(path) => std::slice::from_ref(path),
            Self::Frames { files, .. } => files,
            Self::Array(array) => array.files(),
            Self::Packed(_) => &[],
        }
    }

    /// Checks from the first bytes alone that the format is supported and the size acceptable.
    ///
    /// A film (MP4 and similar) stores its size further back; for it only the format is checked,
    /// and whether there is an [`Ffmpeg`](crate::Ffmpeg) to read it.
    ///
    /// # Errors
    /// When one of these checks fails.
    pub fn check_header(&self) -> Result<()> {
        if let Self::Packed(packed) = self {
            return packed.probe().map(drop);
        }
        if self.array()?.is_some() {
            return Ok(());
        }
        let path = self.first_file()?;
        let (h, w) = match sniff(path)? {
            Format::Gif => gif::size(path)?,
            Format::Png => png::size(path)?,
            Format::Jpeg => still::size(path)?,
            // Lossless WebP has no minimum size for a frame of one colour.
            Format::WebP => {
                let (h, w) = webp::size(path)?;
                return check_size(path, h, w);
            }
            Format::Film(container) => return ffmpeg::check(path, container),
            Format::Array(_) => return Err(no_frame(path)),
        };
        check_size(path, h, w)?;
        check_claim(path, h, w)
    }

    /// Walks the structure of the file without decoding pixels.
    ///
    /// # Errors
    /// When it cannot be read, is truncated, or is larger than the accepted limit.
    pub fn probe(&self) -> Result<Probe> {
        if let Self::Packed(packed) = self {
            return packed.probe();
        }
        if let Some(array) = self.array()? {
            return Ok(array.probe());
        }
        self.check_header()?;
        let path = self.first_file()?;
        let mut probe = match sniff(path)? {
            Format::Gif => gif::probe(path)?,
            Format::Png => png::probe(path)?,
            Format::Jpeg => {
                let (h, w) = still::size(path)?;
                single(h, w)
            }
            Format::WebP => webp::probe(path)?,
            Format::Film(container) => ffmpeg::probe(path, container)?,
            Format::Array(_) => return Err(no_frame(path)),
        };
        if let Self::Frames { files, .. } = self {
            probe.f = files.len();
            probe.fps = UNSTATED_FPS;
        }
        Ok(probe)
    }

    /// Reads all frames; of arrays, only those of bytes.
    ///
    /// # Errors
    /// As [`crate::decode`].
    pub fn decode(&self, channels: usize) -> Result<Clip> {
        let fps = self.probe()?.fps;
        self.collect(channels, None, fps)
    }

    /// Reads the frames at `wanted` (ascending), and decodes nothing after the last of them.
    ///
    /// # Errors
    /// As [`crate::decode`]; also when the video has fewer frames.
    pub fn decode_frames(&self, channels: usize, wanted: &[usize], fps: f64) -> Result<Clip> {
        self.collect(channels, Some(wanted), fps)
    }

    pub(super) fn collect(
        &self,
        channels: usize,
        wanted: Option<&[usize]>,
        fps: f64,
    ) -> Result<Clip> {
        if let Self::Packed(packed) = self {
            return packed.frames(channels, wanted, fps);
        }
        if channels != 1 && channels != 3 {
            return Err(Error::config("data.channels", "1 or 3, for pictures", channels));
        }
        if let Some(array) = self.array()? {
            return bytes(&array, channels, wanted, fps);
        }
        let path = self.path();
        if let Self::File(path) = self
            && let Format::Film(container) = sniff(path)?
        {
            ffmpeg::check_clip(path, container, wanted, channels)?;
        }
        let mut shape: Option<(usize, usize)> = None;
        let (mut frames, mut f) = (Vec::new(), 0);
        self.for_each_frame(wanted, &mut |file, image| {
            let found = (image.height() as usize, image.width() as usize);
            let first = *shape.get_or_insert(found);
            if first != found {
                return Err(Error::damaged(
                    file,
                    format!("a frame of {} x {} like the first", first.0, first.1),
                    format!("one of {} x {}", found.0, found.1),
                ));
            }
            pixels::append(&mut frames, image, channels);
            f += 1;
            if frames.len() > MAX_CLIP_BYTES {
                return Err(Error::TooLarge {
                    path: path.to_path_buf(),
                    found: format!("more than {f} frames of {} x {}", found.0, found.1),
                    limit: format!("{MAX_CLIP_BYTES} bytes per clip"),
                });
            }
            Ok(())
        })?;
        let wanted_frames = wanted.map_or(1, <[usize]>::len);
        match shape {
            Some((h, w)) if f >= wanted_frames => Clip::new(frames, [f, h, w, channels], fps),
            _ => Err(Error::damaged(
                path,
                format!("at least {wanted_frames} of the wanted frames"),
                format!("{f}"),
            )),
        }
    }

    /// Passes the wanted frames (all, if `None`) to `visit`, in order, with only one in memory at a
    /// time.
    pub(crate) fn for_each_frame(
        &self,
        wanted: Option<&[usize]>,
        visit: &mut dyn FnMut(&Path, DynamicImage) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Frames { files, .. } => {
                for (index, file) in files.iter().enumerate() {
                    if wanted.is_none_or(|list| list.binary_search(&index).is_ok()) {
                        visit(file, still::read(file, sniff(file)?)?)?;
                    }
                }
                Ok(())
            }
            Self::Array(array) => Err(no_frame(array.path())),
            Self::Packed(packed) => packed.for_each_frame(wanted, visit),
            Self::File(path) => match sniff(path)? {
                Format::Gif => animated(path, gif::frames(path)?, wanted, visit),
                Format::Png if png::is_animated(path)? => {
                    animated(path, png::frames(path)?, wanted, visit)
                }
                Format::WebP => webp::for_each_frame(path, wanted, visit),
                Format::Film(container) => ffmpeg::for_each_frame(path, container, wanted, visit),
                format => visit(path, still::read(path, format)?),
            },
        }
    }

    fn first_file(&self) -> Result<&Path> {
        match self {
            Self::File(path) => Ok(path),
            Self::Array(array) => Ok(array.path()),
            Self::Frames { folder, files } => files
                .first()
                .map(PathBuf::as_path)
                .ok_or_else(|| Error::damaged(folder, "at least one frame", "none")),
            Self::Packed(packed) => Ok(packed.path()),
        }
    }
}

/// Steps through an animation up to the last wanted frame.
fn animated(
    path: &Path,
    frames: image::Frames<'_>,
    wanted: Option<&[usize]>,
    visit: &mut dyn FnMut(&Path, DynamicImage) -> Result<()>,
) -> Result<()> {
    let last = wanted.map(|list| list.last().copied());
    for (index, frame) in frames.enumerate() {
        let frame = frame.map_err(|e| undecodable(path, &format!("an intact frame {index}"), e))?;
        if wanted.is_none_or(|list| list.binary_search(&index).is_ok()) {
            visit(path, DynamicImage::ImageRgba8(frame.into_buffer()))?;
        }
        if last.is_some_and(|last| last.is_none_or(|last| index >= last)) {
            break;
        }
    }
    Ok(())
}
