//! Threads that load clips out of order and return them in order.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Cursor, Dataset, Image, Images};
use crate::folder::BadFile;
use crate::{Error, Result, Sample};

/// One position in the order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    /// The number of this ticket, counted per loader.
    pub(super) number: u64,
    pub(super) seed: u64,
    pub(super) epoch: u64,
    pub(super) index: u64,
    /// The position after it.
    pub(super) after: Cursor,
}

/// A clip and the images beside it.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) sample: Sample,
    pub(super) images: Vec<Image>,
    /// Files that were drawn for an image but could not be read.
    pub(super) bad: Vec<BadFile>,
}

/// The result for one position.
#[derive(Debug)]
pub(super) enum Outcome {
    Clip(Box<Loaded>),
    Short,
    Bad(Error),
}

/// The threads, and the channels between them and the loader.
#[derive(Debug)]
pub(super) struct Workers {
    jobs: Option<Sender<Ticket>>,
    done: Receiver<(u64, Outcome)>,
    arrived: HashMap<u64, Outcome>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    depth: usize,
}

impl Workers {
    /// Starts `threads` threads; at most `depth` clips are in flight at once.
    pub(super) fn start(dataset: &Arc<Dataset>, threads: usize, depth: usize) -> Result<Self> {
        let (jobs, work) = bounded::<Ticket>(depth);
        let (send, done) = bounded(depth);
        let mut workers = Self {
            jobs: Some(jobs),
            done,
            arrived: HashMap::new(),
            stop: Arc::default(),
            threads: Vec::with_capacity(threads),
            depth,
        };
        for k in 0..threads {
            let (work, send) = (work.clone(), send.clone());
            let (dataset, stop) = (Arc::clone(dataset), Arc::clone(&workers.stop));
            let thread = std::thread::Builder::new()
                .name(format!("vd-load-{k}"))
                .spawn(move || {
                    for ticket in work {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        if send.send((ticket.number, load(&dataset, &ticket))).is_err() {
                            break;
                        }
                    }
                })
                .map_err(Error::Threads)?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Never blocks as long as at most `depth` tickets are in flight.
    pub(super) fn submit(&self, ticket: Ticket) -> Result<()> {
        let jobs = self.jobs.as_ref().ok_or(Error::WorkersGone)?;
        jobs.send(ticket).map_err(|_| Error::WorkersGone)
    }

    /// Blocks until the outcome of ticket `number` arrives; others that arrive earlier are stored.
    pub(super) fn wait_for(&mut self, number: u64) -> Result<Outcome> {
        loop {
            if let Some(outcome) = self.arrived.remove(&number) {
                return Ok(outcome);
            }
            let (other, outcome) = self.done.recv().map_err(|_| Error::WorkersGone)?;
            self.arrived.insert(other, outcome);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // the threads wait for work: a closed channel wakes them
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // a thread that panicked has nothing left to report
            let _ = thread.join();
        }
    }
}

/// Loads the clip of a ticket; if a decoder panics on a damaged file, the file is bad but the
/// thread survives.
pub(super) fn load(dataset: &Dataset, ticket: &Ticket) -> Outcome {
    let Ticket { seed, epoch, index, .. } = *ticket;
    let loaded = || {
        let Some(sample) = dataset.sample(seed, epoch, index)? else { return Ok(None) };
        let Images { images, bad } = dataset.images(seed, epoch, index)?;
        Ok(Some(Loaded { sample, images, bad }))
    };
    match catch_unwind(AssertUnwindSafe(loaded)) {
        Ok(Ok(Some(loaded))) => Outcome::Clip(Box::new(loaded)),
        Ok(Ok(None)) => Outcome::Short,
        Ok(Err(error)) => Outcome::Bad(error),
        Err(panic) => Outcome::Bad(panicked(dataset, index, &*panic)),
    }
}

fn panicked(dataset: &Dataset, index: u64, panic: &(dyn Any + Send)) -> Error {
    let entry = dataset.folder().and_then(|folder| folder.entries().get(index as usize));
    match entry {
        Some(entry) => Error::damaged(
            entry.media.path(),
            "a video that can be decoded",
            "one that makes the decoder panic",
        ),
        None => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let said = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Error::Generator { index, said: said.unwrap_or("no message").to_owned() }
        }
    }
}
