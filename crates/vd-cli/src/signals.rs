//! SIGINT and SIGTERM: the first one requests an orderly end, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Signals this soon after the first count as the same one: a terminal and a program in between
/// (`timeout`, `cargo run`) may both forward it.
const SAME: Duration = Duration::from_millis(500);

/// A flag that the first signal sets. A later one ends the process as if signals were not handled.
pub(crate) fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&stop);
    let mut signals =
        Signals::new([SIGINT, SIGTERM]).context("the handlers of SIGINT and SIGTERM")?;
    let watch = move || {
        let mut first: Option<Instant> = None;
        for signal in signals.forever() {
            match first {
                None => {
                    raised.store(true, Ordering::Relaxed);
                    first = Some(Instant::now());
                    tracing::info!("stopping after this step; a second signal stops at once");
                }
                Some(at) if at.elapsed() < SAME => {}
                // For these two signals it does not return.
                Some(_) => drop(emulate_default_handler(signal)),
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(watch).context("a thread")?;
    Ok(stop)
}
