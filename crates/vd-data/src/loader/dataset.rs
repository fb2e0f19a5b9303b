//! Clips by number, from a folder or a generator.

use std::path::Path;
use std::sync::Arc;

use crate::captions::Captions;
use crate::config::{DataConfig, Source};
use crate::folder::Folder;
use crate::generate::Generator;
use crate::random::{Purpose, Stream};
use crate::take::{Sample, Taken, take};
use crate::{Error, Result};

/// A source of samples of one shape.
#[derive(Debug)]
pub struct Dataset {
    config: DataConfig,
    pub(super) items: Items,
    /// Where images come from, if not from the clips.
    pub(super) beside: Option<Items>,
}

#[derive(Debug)]
pub(super) enum Items {
    Folder(Folder),
    Endless(Box<dyn Generator>),
}

/// How a folder is read.
type Scan = fn(&Path, &Captions, usize) -> Result<Folder>;

impl Items {
    fn open(source: &Source, scan: Scan, max_bad_files: usize) -> Result<Self> {
        Ok(match source {
            Source::Folder { path, captions } => Self::Folder(scan(path, captions, max_bad_files)?),
            Source::Shards { path } => Self::Folder(Folder::scan_shards(path, max_bad_files)?),
            Source::Fireworks(fireworks) => Self::Endless(Box::new(fireworks.clone())),
            Source::Digits(digits) => Self::Endless(Box::new(digits.clone())),
        })
    }

    /// The images that have a source of their own.
    fn beside(config: &DataConfig) -> Result<Option<Self>> {
        let source = config.images.as_ref().and_then(|images| images.source.as_ref());
        source
            .map(|source| Self::open(source, Folder::scan_images, config.max_bad_files))
            .transpose()
    }
}

impl Dataset {
    /// Checks the config and opens its source; a folder is listed and its headers are checked.
    ///
    /// # Errors
    /// When the config is outside its range, or as [`Folder::scan`].
    pub fn open(config: &DataConfig) -> Result<Self> {
        config.validate()?;
        let items = Items::open(&config.source, Folder::scan_with, config.max_bad_files)?;
        Ok(Self { beside: Items::beside(config)?, config: config.clone(), items })
    }

    /// A data set of a generator of one's own; `config.source` is passed over.
    ///
    /// # Errors
    /// When the config is outside its range, or its images cannot be opened.
    pub fn endless(config: &DataConfig, generator: Box<dyn Generator>) -> Result<Self> {
        config.validate()?;
        let (items, beside) = (Items::Endless(generator), Items::beside(config)?);
        Ok(Self { config: config.clone(), items, beside })
    }

    /// The config that it was opened with.
    pub fn config(&self) -> &DataConfig {
        &self.config
    }

    /// The folder, if it is one.
    pub fn folder(&self) -> Option<&Folder> {
        match &self.items {
            Items::Folder(folder) => Some(folder),
            Items::Endless(_) => None,
        }
    }

    /// The folder that images beside the clips come from, if it is another than that of the clips.
    pub fn image_folder(&self) -> Option<&Folder> {
        match &self.beside {
            Some(Items::Folder(folder)) => Some(folder),
            _ => None,
        }
    }

    /// How many clips an epoch has; `None` for a generator.
    pub fn clips(&self) -> Option<usize> {
        self.folder().map(|folder| folder.entries().len())
    }

    /// The sample of clip `index` in `epoch`: start, part and flip are drawn from a stream of its own. The images beside it
    /// are those of [`Dataset::images`].
    ///
    /// `None` where the clip is too short and `short = "skip"`.
    ///
    /// # Errors
    /// When there is no such clip, or it cannot be read ([`Error::is_bad_file`] tells).
    pub fn sample(&self, seed: u64, epoch: u64, index: u64) -> Result<Option<Sample>> {
        let config = &self.config;
        let mut stream = Stream::new(Purpose::Sample, seed, epoch, index);
        match &self.items {
            Items::Folder(folder) => {
                let entry =
                    usize::try_from(index).ok().and_then(|index| folder.entries().get(index));
                let entry = entry.ok_or_else(|| Error::Cursor {
                    expected: format!("a clip below {}", folder.entries().len()),
                    got: index.to_string(),
                })?;
                let taken = take(&entry.media, config, &mut stream)?;
                Ok(taken.map(|(clip, kept, taken)| Sample {
                    clip,
                    kept,
                    caption: entry.caption.clone(),
                    row: entry.row.clone(),
                    folder: entry.folder().map(Arc::from),
                    taken,
                }))
            }
            Items::Endless(generator) => {
                let (mut clip, caption) =
                    generator.clip(seed, index, config.frames, config.size, config.channels)?;
                if config.flip && stream.chance(0.5) {
                    clip.flip();
                }
                let f = clip.f;
                let taken = Taken { start: 0, stride: 1, of: f };
                let caption = Some(caption);
                Ok(Some(Sample { clip, kept: f, caption, row: None, folder: None, taken }))
            }
        }
    }

    /// The order of an epoch.
    pub(super) fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let clips = self.clips().unwrap_or(0);
        Stream::new(Purpose::Order, seed, epoch, 0).permutation(clips)
    }
}
