//! Options and events of a run.

use std::path::{Path, PathBuf};

use crate::metrics::StepReport;

/// What to do with checkpoints that are already in the run's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// There must be none: the run starts from the beginning.
    No,
    /// Resume from the newest complete one; start from the beginning if there is none.
    Newest,
}

/// An event in a run.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The run is about to do its first step.
    Started {
        /// Steps done before.
        step: u64,
        /// The total number of steps.
        steps: u64,
        /// The number of trainable values of the network.
        parameters: usize,
        /// The device that it computes on.
        device: tch::Device,
        /// Threads of libtorch's operators.
        threads: usize,
    },
    /// A step is done.
    Step(&'a StepReport),
    /// A checkpoint was written.
    Saved {
        /// Its step.
        step: u64,
        /// Its directory.
        path: &'a Path,
    },
    /// A preview was written.
    Preview {
        /// Its step.
        step: u64,
        /// Its file.
        path: &'a Path,
    },
}

/// The outcome of a run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// Steps done before.
    pub from_step: u64,
    /// Total steps done now, those before included.
    pub step: u64,
    /// Whether it was stopped before its last step.
    pub stopped: bool,
    /// The newest checkpoint, if there is one.
    pub checkpoint: Option<PathBuf>,
    /// The numbers of the last step, if there was one.
    pub last: Option<StepReport>,
    /// Seconds since the first step.
    pub seconds: f64,
}
