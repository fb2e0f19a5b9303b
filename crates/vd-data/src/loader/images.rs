//! Independent images beside a clip.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::Dataset;
use super::dataset::Items;
use crate::captions::Row;
use crate::folder::{BadFile, Entry, Folder};
use crate::random::{Purpose, Stream};
use crate::take::{Taken, take_frame};
use crate::{Clip, DataConfig, Error, Result};

/// How many files in a row may be unreadable while one image is drawn.
const TRIES: usize = 100;

/// The first clip of a generator that images are drawn from, and how many there are: no run gets
/// that far.
const FROM: u64 = 1 << 40;

/// Metadata of one image.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ImageInfo {
    /// The caption of the image, or of the clip that it is a frame of.
    pub caption: Option<String>,
    /// The row of its file in a table.
    pub row: Option<Arc<Row>>,
    /// The name of the folder that contains its file, below the root of the data set.
    pub folder: Option<Arc<str>>,
    /// Which frame of its file it is.
    pub taken: Taken,
}

/// One image beside a clip.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Image {
    /// Its pixels, a clip of one frame.
    pub clip: Clip,
    /// Its metadata.
    pub info: ImageInfo,
}

/// The images beside one clip.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Images {
    /// The images, `data.images.per_clip` of them.
    pub images: Vec<Image>,
    /// Files that were drawn but could not be read; others were drawn in their place.
    pub bad: Vec<BadFile>,
}

impl Dataset {
    /// The images beside clip `index` in `epoch`; empty if the config has none.
    ///
    /// Every image has its own random streams: it does not affect the clip or any other image, and
    /// the first images stay the same however many there are.
    ///
    /// # Errors
    /// When too many files in a row cannot be read.
    pub fn images(&self, seed: u64, epoch: u64, index: u64) -> Result<Images> {
        let mut found = Images::default();
        let Some(images) = &self.config().images else { return Ok(found) };
        let (items, own) = match &self.beside {
            Some(items) => (items, None),
            None => (&self.items, Some(index)),
        };
        let mut streams = Stream::new(Purpose::Images, seed, epoch, index);
        for _ in 0..images.per_clip {
            let stream = &mut streams.fork();
            let image = match items {
                Items::Folder(folder) => self.drawn_from(folder, own, stream, &mut found.bad)?,
                Items::Endless(generator) => {
                    let DataConfig { frames, size, channels, .. } = *self.config();
                    let index = FROM + stream.bits() % FROM;
                    let (frame, flip) = (stream.below(frames), stream.chance(0.5));
                    let (mut clip, caption) =
                        generator.frame(seed, index, (frame, frames), size, channels)?;
                    if self.config().flip && flip {
                        clip.flip();
                    }
                    let taken = Taken { start: frame, stride: 1, of: frames };
                    let info = ImageInfo { caption: Some(caption), row: None, folder: None, taken };
                    Image { clip, info }
                }
            };
            found.images.push(image);
        }
        Ok(found)
    }

    /// A frame of any file except that of the clip `own`; if a file cannot be read, another one is
    /// drawn.
    fn drawn_from(
        &self,
        folder: &Folder,
        own: Option<u64>,
        stream: &mut Stream,
        bad: &mut Vec<BadFile>,
    ) -> Result<Image> {
        for _ in 0..TRIES {
            let entry = &folder.entries()[other(folder.entries().len(), own, stream)];
            match self.frame_of(entry, stream) {
                Ok(image) => return Ok(image),
                Err(error) if error.is_bad_file() => bad
                    .push(BadFile { path: entry.place(folder.root()), reason: error.to_string() }),
                Err(error) => return Err(error),
            }
        }
        let last = bad.last().map_or("", |bad| bad.reason.as_str());
        let detail = format!(
            "{TRIES} randomly chosen files in a row could not be read for an image, the last: {last}"
        );
        Err(Error::NoClips { folder: folder.root().to_path_buf(), detail })
    }

    /// Any frame of one file; a decoder that panics makes it a bad file.
    fn frame_of(&self, entry: &Entry, stream: &mut Stream) -> Result<Image> {
        let taken = || take_frame(&entry.media, self.config(), stream);
        let (clip, taken) = catch_unwind(AssertUnwindSafe(taken)).unwrap_or_else(|_| {
            let found = "one that makes the decoder panic";
            Err(Error::damaged(entry.media.path(), "an image that can be decoded", found))
        })?;
        let info = ImageInfo {
            caption: entry.caption.clone(),
            row: entry.row.clone(),
            folder: entry.folder().map(Arc::from),
            taken,
        };
        Ok(Image { clip, info })
    }
}

/// Any of `n` positions except `own`, with equal probability; `own` if it is the only one.
fn other(n: usize, own: Option<u64>, stream: &mut Stream) -> usize {
    match own.and_then(|own| usize::try_from(own).ok()) {
        Some(own) if n > 1 && own < n => {
            let place = stream.below(n - 1);
            place + usize::from(place >= own)
        }
        _ => stream.below(n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_but_the_clips_own_is_drawn_equally_often() {
        let mut stream = Stream::new(Purpose::Images, 3, 0, 0);
        let mut counts = [0usize; 5];
        for _ in 0..40_000 {
            counts[other(5, Some(2), &mut stream)] += 1;
        }
        assert_eq!(counts[2], 0);
        // 10,000 expected, standard deviation 87: five of them
        let apart = counts.iter().enumerate().filter(|(k, _)| *k != 2);
        assert!(apart.into_iter().all(|(_, n)| n.abs_diff(10_000) < 435), "{counts:?}");
        assert_eq!(other(1, Some(0), &mut stream), 0);
        let free: Vec<_> = (0..100).map(|_| other(3, None, &mut stream)).collect();
        assert!((0..3).all(|k| free.contains(&k)));
    }
}
