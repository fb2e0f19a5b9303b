//! Interrupts sampling on a signal or an error.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Error, Result, anyhow};

use crate::output::plural;
use crate::signals;

/// Whether a signal requested the end.
#[derive(Debug)]
pub(crate) struct Stop(Arc<AtomicBool>);

/// What an interrupted sampling has left on the disk.
#[derive(Debug)]
pub(crate) struct Left<'a> {
    pub(crate) out: &'a Path,
    pub(crate) done: usize,
    pub(crate) of: usize,
    /// The name of the things counted.
    pub(crate) noun: &'static str,
}

impl Stop {
    /// Handles SIGINT and SIGTERM from here on.
    pub(crate) fn watch() -> Result<Self> {
        Ok(Stop(signals::stop_flag()?))
    }

    /// Whether sampling continues after a step.
    pub(crate) fn flow(&self) -> ControlFlow<()> {
        match self.0.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

impl Left<'_> {
    /// The error that ended sampling, with a note about what was written.
    pub(crate) fn tell(&self, error: Error) -> Error {
        let Left { out, done, of, noun } = self;
        let holds = format!("{} holds the first {done} of {}", out.display(), plural(*of, noun));
        match (is_cancelled(&error), done) {
            (true, 0) => anyhow!("stopped by a signal; nothing was written"),
            (true, _) => anyhow!("stopped by a signal; {holds}"),
            (false, 0) => error,
            (false, _) => error.context(holds),
        }
    }
}

/// Whether a step was interrupted without any error.
fn is_cancelled(error: &Error) -> bool {
    use vd_diffusion::Error::Cancelled;
    matches!(error.downcast_ref(), Some(vd_text_cond::Error::Diffusion(Cancelled { .. })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::message;

    #[test]
    fn what_is_there_is_told_with_the_reason() {
        let left = |done| Left { out: Path::new("clips"), done, of: 9, noun: "clip" };
        let signal =
            || Error::new(vd_text_cond::Error::from(vd_diffusion::Error::Cancelled { steps: 3 }));
        let tell = |done, error| message(&left(done).tell(error));
        assert_eq!(tell(0, signal()), "stopped by a signal; nothing was written");
        let some = "clips holds the first 4 of 9 clips";
        assert_eq!(tell(4, signal()), format!("stopped by a signal; {some}"));
        assert_eq!(tell(0, anyhow!("no space")), "no space");
        assert_eq!(tell(4, anyhow!("no space")), format!("{some}: no space"));
    }
}
