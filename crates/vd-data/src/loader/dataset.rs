//! Clips by number, from a folder or a generator.

use std::path::Path;
use std::sync::Arc;

use super::arrays::check_arrays;
use crate::captions::Captions;
use crate::config::{DataConfig, Source};
use crate::folder::Folder;
use crate::generate::Generator;
use crate::normalise::measure;
use crate::random::{Purpose, Stream};
use crate::take::{Sample, Taken, take};
use crate::take_floats::{read, take_floats};
use crate::{AnyClip, Clip, Error, FloatClip, Normaliser, Result};

/// A source of samples of one shape.
#[derive(Debug)]
pub struct Dataset {
    config: DataConfig,
    pub(super) items: Items,
    /// The source of the images, if it is not the clips' own.
    pub(super) beside: Option<Items>,
    /// The mapping of numbers to the range of the diffusion process; `None` for bytes.
    normaliser: Option<Normaliser>,
}

#[derive(Debug)]
pub(super) enum Items {
    Folder(Folder),
    Endless(Box<dyn Generator>),
}

/// The function that reads a folder.
type Scan<'a> = &'a dyn Fn(&Path, &Captions, usize) -> Result<Folder>;

impl Items {
    fn open(source: &Source, scan: Scan<'_>, max_bad_files: usize) -> Result<Self> {
        Ok(match source {
            Source::Folder { path, captions } => Self::Folder(scan(path, captions, max_bad_files)?),
            Source::Shards { path } => Self::Folder(Folder::scan_shards(path, max_bad_files)?),
            Source::Fireworks(fireworks) => Self::Endless(Box::new(fireworks.clone())),
            Source::Digits(digits) => Self::Endless(Box::new(digits.clone())),
            Source::Program => {
                let expected = "a source that a config can open (folder, shards, fireworks, digits); \
                                clips of a program's own generator are passed as a `Dataset`";
                return Err(Error::config("data.source.kind", expected, "\"program\""));
            }
        })
    }

    /// Opens the separate source of the images.
    fn beside(config: &DataConfig) -> Result<Option<Self>> {
        let source = config.images.as_ref().and_then(|images| images.source.as_ref());
        source
            .map(|source| Self::open(source, &Folder::scan_images, config.max_bad_files))
            .transpose()
    }
}

impl Dataset {
    /// Checks the config and opens its source; a folder is listed and the headers of its files are
    /// checked.
    ///
    /// Statistics that `data.normalise` leaves out are measured in one pass over the data, which
    /// the log reports; [`Dataset::config`] then contains them.
    ///
    /// # Errors
    /// When the config is outside its range, or as [`Folder::scan`]; arrays whose number of
    /// channels is not `data.channels`, or whose numbers are not bytes if there is no
    /// `data.normalise`.
    pub fn open(config: &DataConfig) -> Result<Self> {
        config.validate()?;
        let scan = |path: &Path, captions: &Captions, max_bad_files| {
            Folder::scan_arrays(path, captions, &config.arrays(), max_bad_files)
        };
        let items = Items::open(&config.source, &scan, config.max_bad_files)?;
        Self::normalised(config, items, Items::beside(config)?)
    }

    /// A data set of your own generator, for the loader or for `vd_train::train_on`. Its
    /// [config](Dataset::config) has [`Source::Program`] in place of `config.source`.
    ///
    /// # Errors
    /// When the config is outside its range, or its images cannot be opened.
    pub fn endless(config: &DataConfig, generator: Box<dyn Generator>) -> Result<Self> {
        let config = &DataConfig { source: Source::Program, ..config.clone() };
        config.validate()?;
        Self::normalised(config, Items::Endless(generator), Items::beside(config)?)
    }

    /// Determines how numbers are mapped to the range of the diffusion process.
    fn normalised(config: &DataConfig, items: Items, beside: Option<Items>) -> Result<Self> {
        let mut dataset = Self { config: config.clone(), items, beside, normaliser: None };
        check_arrays(config, dataset.folder())?;
        if let Some(rules) = config.normalise.as_ref().filter(|rules| !rules.is_complete()) {
            dataset.config.normalise = Some(measure(&dataset, rules)?);
        }
        dataset.normaliser = dataset.config.normaliser()?;
        Ok(dataset)
    }

    /// The mapping of numbers to the range of the diffusion process; `None` for clips of bytes.
    pub fn normaliser(&self) -> Option<&Normaliser> {
        self.normaliser.as_ref()
    }

    /// A clip at full size and in its own unit, with at most `values` values; of a larger one,
    /// frames that are spread evenly.
    pub(crate) fn whole(&self, index: usize, values: usize) -> Result<FloatClip> {
        let config = &self.config;
        let folder = match &self.items {
            Items::Folder(folder) => folder,
            Items::Endless(generator) => {
                let (frames, size) = (config.frames, config.size);
                let clip = generator.clip(0, index as u64, frames, size, config.channels)?.0;
                return Ok(FloatClip::from(&clip));
            }
        };
        let media = &self.entry(folder, index as u64)?.media;
        let probe = media.probe()?;
        let fit = values / probe.h.saturating_mul(probe.w).saturating_mul(config.channels).max(1);
        let n = probe.f.min(fit.max(1));
        // in u128: a file may claim so many frames that the product overflows
        let wanted: Vec<usize> =
            (0..n).map(|k| (k as u128 * probe.f as u128 / n as u128) as usize).collect();
        read(media, config, Some(&wanted), probe.fps)
    }

    /// Turns an error about numbers into one about the file that contains them.
    pub(crate) fn of_file(&self, index: u64, error: Error) -> Error {
        let entry = self.folder().and_then(|folder| folder.entries().get(index as usize));
        match (entry, error) {
            (Some(entry), Error::Clip { expected, got }) => {
                Error::damaged(entry.media.path(), expected, got)
            }
            (_, error) => error,
        }
    }

    fn entry<'a>(&self, folder: &'a Folder, index: u64) -> Result<&'a crate::Entry> {
        let entry = usize::try_from(index).ok().and_then(|index| folder.entries().get(index));
        entry.ok_or_else(|| Error::Cursor {
            expected: format!("a clip below {}", folder.entries().len()),
            got: index.to_string(),
        })
    }

    /// Maps numbers to the range of the diffusion process.
    fn mapped(&self, index: u64, mut clip: FloatClip) -> Result<AnyClip> {
        if let Some(normaliser) = &self.normaliser {
            normaliser.apply(&mut clip).map_err(|error| self.of_file(index, error))?;
        }
        Ok(AnyClip::Floats(clip))
    }

    /// The config that it was opened with, completed by measured statistics.
    pub fn config(&self) -> &DataConfig {
        &self.config
    }

    /// The folder, if the source is one.
    pub fn folder(&self) -> Option<&Folder> {
        match &self.items {
            Items::Folder(folder) => Some(folder),
            Items::Endless(_) => None,
        }
    }

    /// The folder of the images beside the clips, if it differs from that of the clips.
    pub fn image_folder(&self) -> Option<&Folder> {
        match &self.beside {
            Some(Items::Folder(folder)) => Some(folder),
            _ => None,
        }
    }

    /// The number of clips in an epoch; `None` for a generator.
    pub fn clips(&self) -> Option<usize> {
        self.folder().map(|folder| folder.entries().len())
    }

    /// The sample of clip `index` in `epoch`. Start, crop and flip are drawn from the clip's own
    /// stream. Its images come from [`Dataset::images`].
    ///
    /// `None` if the clip is too short and `short = "skip"`.
    ///
    /// # Errors
    /// When there is no such clip, or it cannot be read ([`Error::is_bad_file`] tells which).
    pub fn sample(&self, seed: u64, epoch: u64, index: u64) -> Result<Option<Sample>> {
        let config = &self.config;
        let mut stream = Stream::new(Purpose::Sample, seed, epoch, index);
        match &self.items {
            Items::Folder(folder) => {
                let entry = self.entry(folder, index)?;
                let taken = match config.takes_floats() {
                    false => take(&entry.media, config, &mut stream)?
                        .map(|(clip, kept, taken)| (AnyClip::Bytes(clip), kept, taken)),
                    true => match take_floats(&entry.media, config, &mut stream)? {
                        None => None,
                        Some((clip, kept, taken)) => Some((self.mapped(index, clip)?, kept, taken)),
                    },
                };
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
                check_generated(&clip, config)?;
                if config.flip && stream.chance(0.5) {
                    clip.flip();
                }
                let f = clip.f;
                let taken = Taken { start: 0, stride: 1, of: f };
                let caption = Some(caption);
                let clip = match config.takes_floats() {
                    false => AnyClip::Bytes(clip),
                    true => self.mapped(index, FloatClip::from(&clip))?,
                };
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

/// Refuses a clip whose shape is not the one that its generator was asked for.
fn check_generated(clip: &Clip, config: &DataConfig) -> Result<()> {
    let [h, w] = config.size;
    let (asked, got) = ([config.frames, h, w, config.channels], [clip.f, clip.h, clip.w, clip.c]);
    if asked == got {
        return Ok(());
    }
    Err(Error::clip(
        format!("a clip of shape {asked:?} (f h w c) from the generator"),
        format!("one of {got:?}"),
    ))
}
