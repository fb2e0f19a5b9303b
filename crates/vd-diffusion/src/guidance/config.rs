//! Guidance rules by name.

use serde::{Deserialize, Serialize};
use vd_unet3d::Cond;

use crate::error::in_range;
use crate::named::name_or_table;
use crate::{Error, NoiseLevel, Result};

/// A conditioning that samples are guided towards.
#[derive(Debug)]
pub struct Signal {
    /// The conditioning, one row per sample.
    pub cond: Cond,
    /// Guidance scale: 1 + w of Ho & Salimans.
    pub scale: f64,
}

/// How several signals are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signals {
    /// Independently: null + sum of scale_i (given_i - null).
    ///
    /// # Reference
    /// Liu et al. 2022, equation 11, arXiv:2206.01714.
    #[default]
    Independent,
    /// Each on top of the previous one, whose conditioning it includes: null + sum of scale_i
    /// (given_i - given_(i-1)), with given_0 = null.
    ///
    /// # Reference
    /// Brooks et al. 2023 (InstructPix2Pix), equation 3, arXiv:2211.09800.
    Chained,
}

/// The noise levels at which guidance acts; at others the conditional output is used.
///
/// # Reference
/// Kynkäänniemi et al. 2024, arXiv:2404.07724: guidance at high noise reduces diversity, at low
/// noise it has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseRange {
    /// Between two times, both included.
    T([f64; 2]),
    /// Between two log-SNRs, both included.
    LogSnr([f64; 2]),
}

impl Default for NoiseRange {
    fn default() -> Self {
        NoiseRange::T([0.0, 1.0])
    }
}

impl NoiseRange {
    /// Whether a level lies in the range.
    pub fn contains(self, at: NoiseLevel) -> bool {
        let ([from, to], value) = match self {
            NoiseRange::T(ends) => (ends, at.t),
            NoiseRange::LogSnr(ends) => (ends, at.log_snr()),
        };
        (from..=to).contains(&value)
    }

    pub(super) fn validate(self) -> Result<()> {
        let (NoiseRange::T([from, to]) | NoiseRange::LogSnr([from, to])) = self;
        if from <= to {
            return Ok(());
        }
        let got = format!("{from} to {to}");
        Err(Error::value("guidance: within", "two numbers in increasing order", got))
    }
}

/// How the conditional and unconditional outputs are combined, as written in a config.
///
/// Each is the conditional network itself at scale 1. The scale belongs to a [`Signal`], not to the
/// rule. [`Autoguided`](crate::Autoguided), which needs a second network, is not among these rules.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum GuidanceConfig {
    /// null + scale (given - null), in the space of the network's output; the only rule for several
    /// signals.
    ///
    /// # Reference
    /// Ho & Salimans 2022, equation 6, arXiv:2207.12598; `rescale`: Lin et al. 2023, section 3.4,
    /// arXiv:2305.08891.
    ClassifierFree {
        /// From 0 (off) to 1: how far the standard deviation of a sample's output is brought back
        /// to that of the output at scale 1. 0.7 in the paper.
        #[serde(default)]
        rescale: f64,
        /// How several signals are combined.
        #[serde(default)]
        signals: Signals,
        /// The noise levels at which it acts.
        #[serde(default)]
        within: NoiseRange,
    },
    /// null* + scale (given - null*), in the space of the velocity eps - x0, where null* is the
    /// multiple of null closest to given.
    ///
    /// If given - null is perpendicular to null, that multiple is null itself, and this is
    /// classifier-free guidance.
    ///
    /// # Reference
    /// Fan et al. 2025, algorithm 1, arXiv:2503.18886.
    CfgZeroStar {
        /// The number of first sampling steps in which the velocity is replaced by 0, where
        /// guidance acts (1 or more in the paper, for networks that are inaccurate at pure noise).
        /// A restart does not count again; in an inversion, which begins with data, the velocity is
        /// never replaced.
        #[serde(default)]
        zero_init: usize,
        /// The noise levels at which it acts.
        #[serde(default)]
        within: NoiseRange,
    },
    /// given + (scale - 1) delta, on x0-hat, where delta is given - null with its component along
    /// given reduced, its norm bounded, and some of the previous delta added.
    ///
    /// With `eta` = 1 and the other two off, this is classifier-free guidance.
    ///
    /// # Reference
    /// Sadat et al. 2024, algorithm 1, arXiv:2410.02416.
    Apg {
        /// Fraction of the component along given that is kept: from 0 (none, as in the paper) to 1
        /// (all).
        #[serde(default)]
        eta: f64,
        /// Upper bound of the norm of delta, over a whole sample; 0 for no bound. It grows with the
        /// size of a sample: 2.5 to 15 in the paper, on latents.
        #[serde(default)]
        norm_threshold: f64,
        /// Fraction of the previous noise level's sum that is added to given - null: 0 for none,
        /// -0.75 to -0.5 in the paper. The sum is reset at the start of a run, and wherever noise
        /// rises, by a restart or churn.
        #[serde(default)]
        momentum: f64,
        /// The noise levels at which it acts.
        #[serde(default)]
        within: NoiseRange,
    },
}

name_or_table!(
    GuidanceConfig,
    "guidance rule",
    [],
    [ClassifierFree => "classifier-free", CfgZeroStar => "cfg-zero-star", Apg => "apg"],
);

impl Default for GuidanceConfig {
    fn default() -> Self {
        GuidanceConfig::ClassifierFree {
            rescale: 0.0,
            signals: Signals::default(),
            within: NoiseRange::default(),
        }
    }
}

impl GuidanceConfig {
    /// Every rule, with its defaults.
    pub fn all() -> Vec<GuidanceConfig> {
        let within = NoiseRange::default();
        vec![
            GuidanceConfig::default(),
            GuidanceConfig::CfgZeroStar { zero_init: 0, within },
            GuidanceConfig::Apg { eta: 0.0, norm_threshold: 0.0, momentum: 0.0, within },
        ]
    }

    /// The name of every rule.
    pub fn all_names() -> Vec<&'static str> {
        GuidanceConfig::all().iter().map(GuidanceConfig::name).collect()
    }

    /// The noise levels at which it acts.
    pub fn within(&self) -> NoiseRange {
        match self {
            GuidanceConfig::ClassifierFree { within, .. }
            | GuidanceConfig::CfgZeroStar { within, .. }
            | GuidanceConfig::Apg { within, .. } => *within,
        }
    }

    /// The same rule, acting at other noise levels.
    pub fn limited(self, to: NoiseRange) -> GuidanceConfig {
        let mut rule = self;
        match &mut rule {
            GuidanceConfig::ClassifierFree { within, .. }
            | GuidanceConfig::CfgZeroStar { within, .. }
            | GuidanceConfig::Apg { within, .. } => *within = to,
        }
        rule
    }

    /// Refuses settings out of range.
    ///
    /// # Errors
    /// Names the setting, its allowed values and its value.
    pub fn validate(&self) -> Result<()> {
        self.within().validate()?;
        match *self {
            GuidanceConfig::ClassifierFree { rescale, .. } => {
                in_range("guidance classifier-free: rescale", rescale, 0.0, 1.0)
            }
            GuidanceConfig::CfgZeroStar { .. } => Ok(()),
            GuidanceConfig::Apg { eta, norm_threshold, momentum, .. } => {
                in_range("guidance apg: eta", eta, 0.0, 1.0)?;
                if !(norm_threshold >= 0.0 && norm_threshold.is_finite()) {
                    let expected = "a finite number from 0 (any length)";
                    return Err(Error::value(
                        "guidance apg: norm_threshold",
                        expected,
                        norm_threshold,
                    ));
                }
                if momentum.abs() < 1.0 {
                    return Ok(());
                }
                Err(Error::value("guidance apg: momentum", "between -1 and 1", momentum))
            }
        }
    }
}
