//! What a run is asked for, and what it tells.

use std::path::{Path, PathBuf};

use crate::metrics::StepReport;

/// What to do with the checkpoints that are in the run's folder already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// There must be none: the run begins.
    No,
    /// Go on from the newest whole one; begin where there is none.
    Newest,
}

/// What happens in a run.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The run is about to do its first step.
    Started {
        /// Steps done before.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// Values of the network that are trained.
        parameters: usize,
        /// Where it computes.
        device: tch::Device,
        /// Threads of libtorch's operators.
        threads: usize,
    },
    /// A step is done.
    Step(&'a StepReport),
    /// A checkpoint is on the disk.
    Saved {
        /// Its step.
        step: u64,
        /// Its directory.
        path: &'a Path,
    },
    /// A preview is on the disk.
    Preview {
        /// Its step.
        step: u64,
        /// Its file.
        path: &'a Path,
    },
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// Steps done before.
    pub from_step: u64,
    /// Steps done now.
    pub step: u64,
    /// Whether it was stopped before its end.
    pub stopped: bool,
    /// The newest checkpoint, if there is one.
    pub checkpoint: Option<PathBuf>,
    /// The last step's numbers, if there was a step.
    pub last: Option<StepReport>,
    /// Seconds since the first step.
    pub seconds: f64,
}
