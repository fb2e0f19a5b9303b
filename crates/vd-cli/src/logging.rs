//! What is logged, and where to.

use std::io::{self, IsTerminal, Write};

use indicatif::MultiProgress;
use tracing_subscriber::filter::{EnvFilter, FilterExt, LevelFilter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// The variable that says what is logged.
pub(crate) const VARIABLE: &str = "VD_LOG";

/// Logs to stderr, above whatever bars are shown there.
pub(crate) fn init(bars: &MultiProgress) {
    let asked = std::env::var(VARIABLE).ok().filter(|text| !text.trim().is_empty());
    let parsed = asked.as_deref().map(EnvFilter::try_new);
    let (filter, complaint) = match parsed {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new("info"), Some(error)),
        None => (EnvFilter::new("info"), None),
    };
    let bars = bars.clone();
    let layer = tracing_subscriber::fmt::layer()
        .compact()
        .without_time()
        .with_target(false)
        // It would report a closed stderr to stderr, and end the run by it.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(move || AboveBars(bars.clone()))
        // Warnings are part of the result: no filter hides them.
        .with_filter(filter.or(LevelFilter::WARN));
    // Fails only where a subscriber is already there, and then that one does.
    let _ = tracing_subscriber::registry().with(layer).try_init();
    if let Some(error) = complaint {
        tracing::warn!("{VARIABLE} is invalid ({error}): logging as with {VARIABLE}=info");
    }
}

/// Stderr, with the bars taken away while a line is written.
struct AboveBars(MultiProgress);

impl Write for AboveBars {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write_all(line)).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
