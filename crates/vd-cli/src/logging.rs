//! Sets up logging.

use std::io::{self, IsTerminal, Write};

use indicatif::MultiProgress;
use tracing_subscriber::filter::{EnvFilter, FilterExt, LevelFilter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// The variable that sets the log filter.
pub(crate) const VARIABLE: &str = "VD_LOG";

/// Logs to stderr, above any progress bars.
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
        // Otherwise it would report a closed stderr to stderr, which ends the run.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(move || AboveBars(bars.clone()))
        // Warnings are part of the result: no filter hides them.
        .with_filter(filter.or(LevelFilter::WARN));
    // Fails only if a subscriber is already installed, which is then used.
    let _ = tracing_subscriber::registry().with(layer).try_init();
    if let Some(error) = complaint {
        tracing::warn!("{VARIABLE} is invalid ({error}): logging as with {VARIABLE}=info");
    }
}

/// Stderr, with the bars hidden while a line is written.
struct AboveBars(MultiProgress);

impl Write for AboveBars {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write_all(line)).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
