//! Whether a clip has the colour that it should have.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use vd_data::{Clip, Colour, Share, dominant_colour, wilson};

/// The rule, as the report states it; `vd_data::dominant_colour`.
pub(crate) const RULE: &str = "every pixel of every frame votes for the nearest of six hues (0, 45, \
                               125, 183, 230, 303 degrees) with its chroma squared; chroma below \
                               0.15 does not vote; the hue with the most votes is the clip's";

/// What is asked of the model.
pub(crate) const ASKED: &str = "95 % of the clips in the colour of their prompt, by a rule that \
                                is right on 98 % of real clips";

/// What the run's metrics.jsonl says.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Step and loss of every line.
    pub(crate) losses: Vec<(f64, f64)>,
    /// Of all steps together.
    pub(crate) seconds: f64,
}

impl Metrics {
    /// Reads the metrics of a run.
    pub(crate) fn read(run: &Path) -> Result<Self> {
        let path = run.join("metrics.jsonl");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mut metrics = Metrics::default();
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line)?;
            let number = |key| line[key].as_f64().with_context(|| format!("a line without {key}"));
            metrics.losses.push((number("step")?, number("loss")?));
            metrics.seconds += number("seconds")?;
        }
        Ok(metrics)
    }
}

/// How many clips have the colour that they should have.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    all: Share,
    by_colour: Vec<(String, Share)>,
}

impl Measured {
    /// Judges clips against the colours that they should have.
    pub(crate) fn of(clips: &[(Colour, Clip)]) -> Self {
        let share = |colour: Option<Colour>| {
            let of = clips.iter().filter(|(wanted, _)| colour.is_none_or(|c| c == *wanted));
            let hits = of.clone().filter(|(wanted, clip)| dominant_colour(clip) == Some(*wanted));
            wilson(hits.count(), of.count())
        };
        let by_colour =
            Colour::ALL.iter().map(|c| (c.name().to_owned(), share(Some(*c)))).collect();
        Measured { all: share(None), by_colour }
    }
}

/// What the demo found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) rule: &'static str,
    pub(crate) generated: Measured,
    pub(crate) real: Measured,
    pub(crate) guidance: f64,
    pub(crate) sampling_steps: usize,
    pub(crate) training_steps: u64,
    pub(crate) training_seconds: f64,
    pub(crate) sampling_seconds: f64,
}

impl Report {
    /// Whether the model does what is asked of it.
    pub(crate) fn passed(&self) -> bool {
        self.generated.all.share >= 0.95 && self.real.all.share >= 0.98
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        Ok(vd_tensor_ops::write_atomically(path, text.as_bytes())?)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |s: &Share| {
            let (share, low, high) = (100.0 * s.share, 100.0 * s.low, 100.0 * s.high);
            format!(
                "{:>2} of {:>2} = {share:.1} % (95 % interval {low:.1} to {high:.1})",
                s.successes, s.n
            )
        };
        writeln!(f, "clips in the colour of their prompt: {}", line(&self.generated.all))?;
        for (colour, share) in &self.generated.by_colour {
            writeln!(f, "  {colour:<8} {}", line(share))?;
        }
        writeln!(f, "the same rule on real clips:         {}", line(&self.real.all))?;
        writeln!(f, "asked for: {ASKED}: {}", if self.passed() { "passed" } else { "MISSED" })?;
        let (train, sample) = (self.training_seconds, self.sampling_seconds);
        write!(f, "time: training {train:.0} s, sampling {sample:.0} s")
    }
}
