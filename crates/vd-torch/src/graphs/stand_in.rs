//! A placeholder for a device in tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Pool, Recorder, Recording};
use crate::{Error, Result};

/// A recorder for the CPU, whose replays run the recorded function again and write to the same
/// tensors; for tests ([`imitated`](super::imitated)).
#[derive(Debug, Default)]
pub struct StandIn {
    flaw: Option<Flaw>,
    recorded: AtomicUsize,
    replayed: Arc<AtomicUsize>,
}

/// A simulated fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// It cannot make its recording of this number, from 0.
    Refuses(usize),
    /// It panics in that recording, after the function has run.
    Panics(usize),
    /// Its replays do nothing.
    Idle,
    /// Replays fail after this many.
    Stops(usize),
}

impl StandIn {
    /// A recorder without faults.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A recorder with a fault.
    pub fn with(flaw: Flaw) -> Arc<Self> {
        Arc::new(StandIn { flaw: Some(flaw), ..StandIn::default() })
    }

    /// The number of recordings requested.
    pub fn recorded(&self) -> usize {
        self.recorded.load(Ordering::Relaxed)
    }

    /// The number of replays.
    pub fn replayed(&self) -> usize {
        self.replayed.load(Ordering::Relaxed)
    }
}

impl Recorder for StandIn {
    fn aside(&self, f: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        f()
    }

    fn clear(&self) -> Result<()> {
        Ok(())
    }

    fn pool(&self) -> Result<Pool> {
        Ok([0; 2])
    }

    fn record(&self, _pool: Pool, f: &mut dyn FnMut() -> Result<()>) -> Result<Box<dyn Recording>> {
        let number = self.recorded.fetch_add(1, Ordering::Relaxed);
        if self.flaw == Some(Flaw::Refuses(number)) {
            return Err(Error::Torch(
                "operation not permitted when stream is capturing".to_owned(),
            ));
        }
        f()?;
        assert!(self.flaw != Some(Flaw::Panics(number)), "a stand-in that panics");
        Ok(Box::new(Again { flaw: self.flaw, replayed: Arc::clone(&self.replayed) }))
    }
}

#[derive(Debug)]
struct Again {
    flaw: Option<Flaw>,
    replayed: Arc<AtomicUsize>,
}

impl Recording for Again {
    fn replay(&mut self, again: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let number = self.replayed.fetch_add(1, Ordering::Relaxed);
        match self.flaw {
            Some(Flaw::Idle) => Ok(()),
            Some(Flaw::Stops(after)) if number >= after => {
                Err(Error::Torch("an illegal memory access was encountered".to_owned()))
            }
            _ => again(),
        }
    }
}
