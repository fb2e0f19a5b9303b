//! Reports what a folder of videos contains, before it is used for training.

mod arrays;
mod columns;
mod report;
mod stats;
mod stats_numbers;
mod survey;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use report::{ArrayReport, Column, Report, SizeCount, Spread};
pub(crate) use stats::spread_over;
pub use stats::{Channel, Histogram, Pixels, Stats, stats};
pub use stats_numbers::ArrayStats;
pub use survey::{Survey, survey};

use arrays::Numbers;

use crate::array::ArrayOptions;
use crate::captions::Captions;
use crate::decode::Media;
use crate::folder::{BadFile, Entry, Folder};
use crate::shards::is_shards;
use crate::{Error, Result};

/// The properties of one valid video.
#[derive(Debug, Clone)]
struct About {
    f: usize,
    h: usize,
    w: usize,
    fps: f64,
    grey: bool,
    bytes: u64,
    /// The statistics of its numbers, for an array.
    numbers: Option<Numbers>,
}

/// A video and its properties.
type Found<'a> = (&'a Entry, About);

/// Reads every video below `folder` to its end and reports its properties; unreadable files are
/// listed in the report.
///
/// # Errors
/// When `folder` is not a folder or cannot be listed.
pub fn inspect(folder: &Path) -> Result<Report> {
    inspect_with(folder, &Captions::Beside)
}

/// Like [`inspect`], with captions from the source `captions`; prepared clips have their own.
///
/// # Errors
/// As [`inspect`]; a table that is not valid, or that has rows for files that do not exist.
pub fn inspect_with(folder: &Path, captions: &Captions) -> Result<Report> {
    inspect_arrays(folder, captions, &ArrayOptions::default(), None)
}

/// Like [`inspect_with`], with arrays read as `arrays` says, and with `invalid` as the mark of
/// missing values.
///
/// # Errors
/// As [`inspect_with`].
pub fn inspect_arrays(
    folder: &Path,
    captions: &Captions,
    arrays: &ArrayOptions,
    invalid: Option<f64>,
) -> Result<Report> {
    let listed = if *captions == Captions::Beside && is_shards(folder) {
        Folder::list_shards(folder)?
    } else {
        Folder::list_arrays(folder, captions, arrays)?
    };
    let found = for_all(listed.entries(), &|media: &Media| look(media, invalid));
    let mut bad_files = listed.bad_files().to_vec();
    let mut sound = Vec::new();
    for (entry, about) in listed.entries().iter().zip(found) {
        match about {
            Ok(about) => sound.push((entry, about)),
            Err(error) => bad_files.push(BadFile {
                path: entry.media.path().to_path_buf(),
                reason: error.to_string(),
            }),
        }
    }
    let captions: Vec<&String> =
        sound.iter().filter_map(|(entry, _)| entry.caption.as_ref()).collect();
    let pictures = sound.iter().filter(|(_, about)| about.numbers.is_none()).count();
    let grey_clips = sound.iter().filter(|(_, about)| about.grey).count();
    Ok(Report {
        folder: folder.to_path_buf(),
        clips: sound.len(),
        frames: spread(sound.iter().map(|(_, about)| about.f as f64)),
        fps: spread(sound.iter().map(|(_, about)| about.fps)),
        sizes: sizes(sound.iter().map(|(_, about)| (about.h, about.w))),
        grey_clips,
        colour_clips: pictures - grey_clips,
        arrays: arrays::report(&sound),
        captions: captions.len(),
        caption_examples: examples(&captions),
        columns: columns::columns(sound.iter().filter_map(|(entry, _)| entry.row.as_deref())),
        bad_files,
        other_files: listed.other_files().clone(),
        bytes: sound.iter().map(|(_, about)| about.bytes).sum(),
    })
}

/// Reads all videos with one thread per core; the results are in the order of the entries.
fn for_all<T: Send>(
    entries: &[Entry],
    look: &(dyn Fn(&Media) -> Result<T> + Sync),
) -> Vec<Result<T>> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(BTreeMap::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(entries.len()) {
            scope.spawn(|| {
                while let Some((index, entry)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    entries.get(index).map(|entry| (index, entry))
                } {
                    let about = safely(&entry.media, look);
                    if let Ok(mut found) = found.lock() {
                        found.insert(index, about);
                    }
                }
            });
        }
    });
    found.into_inner().map_or_else(|_| Vec::new(), |found| found.into_values().collect())
}

/// Treats a file on which a decoder panics as a bad file.
fn safely<T>(media: &Media, look: &(dyn Fn(&Media) -> Result<T> + Sync)) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(|| look(media))).unwrap_or_else(|_| {
        Err(Error::damaged(
            media.path(),
            "a video that can be decoded",
            "one that makes the decoder panic",
        ))
    })
}

fn look(media: &Media, invalid: Option<f64>) -> Result<About> {
    let probe = media.probe()?;
    if let Some(numbers) = media.numbers() {
        return arrays::look(media, numbers, invalid);
    }
    let mut about = About {
        f: 0,
        h: probe.h,
        w: probe.w,
        fps: probe.fps,
        grey: true,
        bytes: bytes(media)?,
        numbers: None,
    };
    media.for_each_frame(None, &mut |file, image| {
        let (h, w) = (image.height() as usize, image.width() as usize);
        if (h, w) != (about.h, about.w) {
            return Err(Error::damaged(
                file,
                format!("a frame of {} x {} like the first", about.h, about.w),
                format!("one of {h} x {w}"),
            ));
        }
        about.f += 1;
        about.grey = about.grey
            && (!image.color().has_color()
                || image
                    .into_rgb8()
                    .pixels()
                    .all(|pixel| pixel.0[0] == pixel.0[1] && pixel.0[1] == pixel.0[2]));
        Ok(())
    })?;
    Ok(about)
}

fn bytes(media: &Media) -> Result<u64> {
    match media {
        Media::Packed(packed) => return Ok(packed.bytes()),
        Media::Array(array) => return Ok(array.bytes()),
        Media::File(_) | Media::Frames { .. } => {}
    }
    media.files().iter().try_fold(0, |sum, path| {
        let about = path.metadata().map_err(|e| Error::read(path, e))?;
        Ok(sum + about.len())
    })
}

fn spread(values: impl Iterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    Some(Spread {
        min: *values.first()?,
        median: values[(values.len() - 1) / 2],
        max: *values.last()?,
    })
}

fn sizes(values: impl Iterator<Item = (usize, usize)>) -> Vec<SizeCount> {
    let mut counts = BTreeMap::<(usize, usize), usize>::new();
    for size in values {
        *counts.entry(size).or_default() += 1;
    }
    let mut sizes: Vec<SizeCount> =
        counts.into_iter().map(|((h, w), clips)| SizeCount { h, w, clips }).collect();
    // the sort is stable: equally frequent sizes stay ordered by their sides
    sizes.sort_by_key(|size| std::cmp::Reverse(size.clips));
    sizes
}

/// The first few distinct captions.
fn examples(captions: &[&String]) -> Vec<String> {
    const SHOWN: usize = 5;
    let mut shown: Vec<String> = Vec::new();
    for caption in captions {
        if shown.len() == SHOWN {
            break;
        }
        if !shown.contains(caption) {
            shown.push((*caption).clone());
        }
    }
    shown
}
