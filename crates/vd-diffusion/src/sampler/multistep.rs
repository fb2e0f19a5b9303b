//! Common parts of the multistep rules.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::polynomial::mean;
use super::{Interval, Past};

/// How the line through two x0-hat is averaged over a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineRule {
    /// By its value halfway in log-SNR: the paper's rule, `solver_type="midpoint"` in diffusers.
    #[default]
    Midpoint,
    /// By its exact integral: `solver_type="heun"` in diffusers.
    Whole,
}

impl LineRule {
    /// The x0-hat to hold over a step, where the density over time grows as exp(growth) of half the
    /// log-SNR.
    pub(super) fn mean(
        self,
        x0: &Tensor,
        before: &Past,
        over: &Interval<'_>,
        growth: f64,
    ) -> Tensor {
        let h = over.half_log_snr_gained();
        let back = (over.from.half_log_snr() - before.at.half_log_snr()) / h;
        let reached = match self {
            LineRule::Midpoint => 0.5,
            LineRule::Whole => mean((0.0, 1.0), |u| (growth * h * u).exp(), |u| u),
        };
        x0.lerp(&before.x0, -reached / back)
    }
}

/// Order of a multistep rule at the end of a run.
///
/// On a step to sigma = 0, where log-SNR is infinite, it is always 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LastSteps {
    /// It falls to 1 on the last step: the last steps of many grids are long in log-SNR, and a
    /// polynomial does not extrapolate that far.
    #[default]
    Fall,
    /// It falls in runs of fewer than 15 steps, as in diffusers.
    FallInShortRuns,
    /// It stays, as in k-diffusion.
    Keep,
}

impl LastSteps {
    /// The order allowed over an interval.
    pub(super) fn order(self, wanted: usize, over: &Interval<'_>) -> usize {
        let falls = match self {
            LastSteps::Fall => true,
            LastSteps::FallInShortRuns => over.of < 15,
            LastSteps::Keep => false,
        };
        if falls || over.is_open() { over.order(wanted) } else { wanted }
    }
}
