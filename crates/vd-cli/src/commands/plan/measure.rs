//! Measures steps of a run in separate processes: time and memory as linear functions of the batch.

use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::args::PlanArgs;

/// A process's report on its steps.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Steps {
    /// The median time of a step in seconds.
    pub(super) seconds: f64,
    /// Peak resident memory, the program included.
    pub(super) peak_bytes: Option<u64>,
    pub(super) parameters: u64,
}

/// A linear function of the batch size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Line {
    /// The value without clips.
    pub(super) fixed: f64,
    /// The increase per clip.
    pub(super) each: f64,
}

impl Line {
    /// The line through two points. Noise never makes it fall.
    fn through((x0, y0): (f64, f64), (x1, y1): (f64, f64)) -> Line {
        let each = ((y1 - y0) / (x1 - x0)).max(0.0);
        Line { fixed: (y1 - each * x1).max(0.0), each }
    }

    pub(super) fn at(&self, batch: usize) -> f64 {
        self.fixed + self.each * batch as f64
    }

    /// The largest batch that stays within `limit`; `None` if even one clip does not.
    pub(super) fn most(&self, limit: f64) -> Option<u64> {
        let most = (limit - self.fixed) / self.each.max(f64::MIN_POSITIVE);
        (most >= 1.0).then_some(most as u64)
    }
}

/// The cost of a step as a function of the batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Costs {
    pub(super) seconds: Line,
    pub(super) bytes: Line,
    /// The batches that were measured.
    pub(super) batches: [usize; 2],
    pub(super) parameters: u64,
}

/// Measures the run of `args` with the settings `more` at two batch sizes.
pub(super) fn costs(args: &PlanArgs, more: &[String], batches: [usize; 2]) -> Result<Costs> {
    let [low, high] = batches;
    let (a, b) = (steps(args, more, low)?, steps(args, more, high)?);
    let at = |steps: &Steps| steps.peak_bytes.map(|bytes| bytes as f64);
    let (Some(low_bytes), Some(high_bytes)) = (at(&a), at(&b)) else {
        bail!("this system does not report a process's memory, so nothing can be planned")
    };
    let [x0, x1] = batches.map(|batch| batch as f64);
    Ok(Costs {
        seconds: Line::through((x0, a.seconds), (x1, b.seconds)),
        bytes: Line::through((x0, low_bytes), (x1, high_bytes)),
        batches,
        parameters: b.parameters,
    })
}

/// Runs a few steps in a separate process, because peak memory is counted over a process's life.
fn steps(args: &PlanArgs, more: &[String], batch: usize) -> Result<Steps> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--json", "plan", "--probe"]).arg(&args.config);
    let of_probe = [format!("train.batch={batch}"), "train.accumulate=1".to_owned()];
    for setting in args.set.iter().chain(more).chain(&of_probe) {
        command.args(["--set", setting]);
    }
    let ran = command.output().context("the measuring process could not be started")?;
    let said = String::from_utf8_lossy(&ran.stdout);
    if !ran.status.success() {
        let error = serde_json::from_str::<serde_json::Value>(&said).ok();
        let error = error.as_ref().and_then(|value| value["error"].as_str()).map(str::to_owned);
        let error = error
            .unwrap_or_else(|| format!("it ended with {}; memory may be insufficient", ran.status));
        return Err(anyhow!("steps at batch {batch}: {error}"));
    }
    serde_json::from_str(&said).with_context(|| format!("steps at batch {batch}: {said:?}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_line_through_two_points_says_what_fits() {
        let line = Line::through((1.0, 12.0), (3.0, 16.0));
        assert_eq!(line, Line { fixed: 10.0, each: 2.0 });
        assert_eq!((line.at(20), line.most(50.0), line.most(11.0)), (50.0, Some(20), None));
        let noise = Line::through((1.0, 12.0), (2.0, 11.0));
        assert_eq!(noise, Line { fixed: 11.0, each: 0.0 });
    }
}
