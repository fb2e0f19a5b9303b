//! Clips in an order that depends on the seed alone, loaded ahead by threads.

mod arrays;
mod batch;
mod cursor;
mod dataset;
mod images;
mod workers;

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

pub use batch::Batch;
pub use cursor::Cursor;
pub use dataset::Dataset;
pub use images::{Image, ImageInfo, Images};

use cursor::Walk;
use workers::{Loaded, Outcome, Ticket, Workers};

use crate::folder::{BadFile, Entry, check_bad_files};
use crate::{DataConfig, Error, Result};

/// An endless sequence of batches, from a cursor on.
///
/// The batches are a function of the config, the batch size and the cursor: the number and speed of
/// the workers change no byte, and neither do images change the clips beside them. Each epoch
/// visits every clip of a folder once, in its own order; a batch may span the end of one or several
/// epochs. An unreadable file is replaced by the next one. Dropping the loader ends its threads.
#[derive(Debug)]
pub struct Loader {
    dataset: Arc<Dataset>,
    batch: usize,
    cursor: Cursor,
    walk: Walk,
    ahead: VecDeque<Ticket>,
    workers: Option<Workers>,
    bad: Vec<BadFile>,
    known_bad: HashSet<PathBuf>,
    /// How many positions in a row gave no clip.
    barren: usize,
}

impl Loader {
    /// Opens the data set and continues from `cursor`, `batch` clips at a time.
    ///
    /// # Errors
    /// When the config is outside its range, the folder has no readable clip or too many bad files,
    /// or the cursor does not fit it.
    pub fn new(config: &DataConfig, batch: usize, cursor: Cursor) -> Result<Self> {
        Self::over(Dataset::open(config)?, batch, cursor)
    }

    /// Like [`Loader::new`], for a data set that is already open.
    ///
    /// # Errors
    /// When `batch` is 0 or the cursor does not fit the data set.
    pub fn over(dataset: Dataset, batch: usize, cursor: Cursor) -> Result<Self> {
        if batch == 0 {
            return Err(Error::config("batch", "at least 1", batch));
        }
        let dataset = Arc::new(dataset);
        let walk = Walk::new(cursor, dataset.clips())?;
        let threads = dataset.config().workers;
        let workers = match threads {
            0 => None,
            _ => Some(Workers::start(&dataset, threads, depth(batch, threads))?),
        };
        let folders = dataset.folder().into_iter().chain(dataset.image_folder());
        let bad = folders.flat_map(|folder| folder.bad_files().to_vec()).collect();
        Ok(Self {
            cursor: walk.cursor(),
            batch,
            walk,
            ahead: VecDeque::new(),
            workers,
            bad,
            known_bad: HashSet::new(),
            barren: 0,
            dataset,
        })
    }

    /// The next batch.
    ///
    /// # Errors
    /// When more files than `max_bad_files` are unreadable, or no file gives a clip. After an error
    /// the position of the loader is lost: continue with a new one.
    #[expect(
        clippy::should_implement_trait,
        reason = "the row has no end and its items can fail: an Iterator's Option would say nothing"
    )]
    pub fn next(&mut self) -> Result<Batch> {
        let mut loaded = Vec::with_capacity(self.batch);
        while loaded.len() < self.batch {
            let (ticket, outcome) = self.next_outcome()?;
            self.cursor = ticket.after;
            match outcome {
                Outcome::Clip(mut clip) => {
                    self.barren = 0;
                    for bad in std::mem::take(&mut clip.bad) {
                        self.note_bad(bad)?;
                    }
                    loaded.push(*clip);
                    continue;
                }
                Outcome::Short => {}
                Outcome::Bad(error) if error.is_bad_file() => {
                    let found = self.dataset.folder().and_then(|folder| {
                        let entry = folder.entries().get(ticket.index as usize)?;
                        Some(entry.place(folder.root()))
                    });
                    if let Some(path) = found {
                        self.note_bad(BadFile { path, reason: error.to_string() })?;
                    }
                }
                Outcome::Bad(error) => return Err(error),
            }
            self.barren += 1;
            self.check_barren()?;
        }
        Batch::assemble(loaded, self.cursor)
    }

    /// The position of the next batch.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The data set.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// The files that could not be read up to now.
    pub fn bad_files(&self) -> &[BadFile] {
        &self.bad
    }

    /// Submits work until enough is in flight, then waits for the next outcome in order.
    fn next_outcome(&mut self) -> Result<(Ticket, Outcome)> {
        let Some(workers) = &mut self.workers else {
            let ticket = self.walk.step(&self.dataset);
            return Ok((ticket, workers::load(&self.dataset, &ticket)));
        };
        while self.ahead.len() < workers.depth() {
            let ticket = self.walk.step(&self.dataset);
            workers.submit(ticket)?;
            self.ahead.push_back(ticket);
        }
        let ticket = self.ahead.pop_front().ok_or(Error::WorkersGone)?;
        let outcome = workers.wait_for(ticket.number)?;
        Ok((ticket, outcome))
    }

    /// Counts a bad file once, logs it, and stops the run when there are too many.
    fn note_bad(&mut self, bad: BadFile) -> Result<()> {
        let images =
            self.dataset.image_folder().filter(|folder| bad.path.starts_with(folder.root()));
        let Some(folder) = images.or(self.dataset.folder()) else {
            return Ok(());
        };
        if !self.known_bad.insert(bad.path.clone()) {
            return Ok(());
        }
        tracing::warn!("left out: {}", bad.reason);
        self.bad.push(bad);
        check_bad_files(folder.root(), &self.bad, self.dataset.config().max_bad_files)
    }

    /// Stops when a whole epoch gave no clip: any 2 n - 1 positions in a row contain all n
    /// positions of one epoch.
    fn check_barren(&self) -> Result<()> {
        let Some(folder) = self.dataset.folder() else {
            return Ok(());
        };
        let clips = folder.entries().len();
        if self.barren + 1 < 2 * clips {
            return Ok(());
        }
        let config = self.dataset.config();
        let bad = |entry: &&Entry| self.known_bad.contains(&entry.place(folder.root()));
        let unread = folder.entries().iter().filter(bad).count();
        let first = self.bad.first().map_or("", |bad| bad.reason.as_str());
        let missing = match config.takes_floats() {
            true => ", or no value in the part that was taken",
            false => "",
        };
        let detail = if unread == clips {
            format!("none of the {clips} files can be read, the first: {first}")
        } else {
            format!(
                "{} of {clips} have fewer than the {} frames that frames = {} at stride = {} span{missing}, \
                 {unread} cannot be read; take fewer frames, or short = \"pad\"",
                clips - unread,
                config.span(),
                config.frames,
                config.stride,
            )
        };
        Err(Error::NoClips { folder: folder.root().to_path_buf(), detail })
    }
}

/// The number of clips in flight: two batches, or one for each thread.
fn depth(batch: usize, threads: usize) -> usize {
    batch.saturating_mul(2).clamp(threads, 4096.max(threads))
}
