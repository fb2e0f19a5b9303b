//! Progress bars, on stderr and only if that is a terminal.

use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The container of all bars.
pub(crate) fn bars() -> MultiProgress {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    MultiProgress::with_draw_target(target)
}

/// A bar of `len` steps, `done` of which are already done.
pub(crate) fn bar(bars: &MultiProgress, noun: &str, len: u64, done: u64) -> ProgressBar {
    let template =
        format!("{noun} {{pos}}/{{len}} [{{bar:32}}] {{elapsed}}, {{eta}} left  {{msg}}");
    let style = ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    let bar = bars.add(ProgressBar::new(len).with_style(style));
    bar.set_position(done);
    bar.reset_eta();
    bar
}
