//! Guidance rules by name.

use serde::{Deserialize, Serialize};
use vd_unet3d::Cond;

use crate::error::in_range;
use crate::named::name_or_table;
use crate::{Error, NoiseLevel, Result};

/// One thing that samples are pulled towards.
#[derive(Debug)]
pub struct Signal {
    /// The conditions, one row a sample.
    pub cond: Cond,
    /// How strongly: 1 + w of Ho & Salimans.
    pub scale: f64,
}

/// How several signals add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signals {
    /// Each by itself: null + sum of scale_i (given_i - null).
    ///
    /// # Reference
    /// Liu et al. 2022, equation 11, arXiv:2206.01714.
    #[default]
    Independent,
    /// Each on top of the one before it, whose conditions it repeats and adds to: null + sum of
    /// scale_i (given_i - given_(i-1)), with given_0 = null.
    ///
    /// # Reference
    /// Brooks et al. 2023 (InstructPix2Pix), equation 3, arXiv:2211.09800.
    Chained,
}

/// The noise levels at which guidance acts; at others the network's conditional answer stands.
///
/// # Reference
/// Kynkäänniemi et al. 2024, arXiv:2404.07724: guidance at high noise costs variety, at low noise
/// it changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseRange {
    /// From and to a time, both included.
    T([f64; 2]),
    /// From and to a log-SNR, both included.
    LogSnr([f64; 2]),
}

impl Default for NoiseRange {
    fn default() -> Self {
        NoiseRange::T([0.0, 1.0])
    }
}

impl NoiseRange {
    /// Whether a level lies in it.
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
        Err(Error::value("guidance: within", "two numbers, the smaller first", got))
    }
}

/// How the answers with and without conditions make one, as a config says it.
///
/// Each is the network itself at scale 1. The names do not say the scale, which belongs to a
/// [`Signal`]. [`Autoguided`](crate::Autoguided), which needs a second network, is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum GuidanceConfig {
    /// null + scale (given - null), in the space of the network's answer; the only rule that takes
    /// several signals.
    ///
    /// # Reference
    /// Ho & Salimans 2022, equation 6, arXiv:2207.12598; `rescale`: Lin et al. 2023, section 3.4,
    /// arXiv:2305.08891.
    ClassifierFree {
        /// From 0 (off) to 1: how far the spread of a sample's answer is brought back to that of
        /// the answer at scale 1. The paper has 0.7.
        #[serde(default)]
        rescale: f64,
        /// How several signals add up.
        #[serde(default)]
        signals: Signals,
        /// Where it acts.
        #[serde(default)]
        within: NoiseRange,
    },
    /// null* + scale (given - null*), in the space of the velocity eps - x0, where null* is null
    /// times the number that brings it nearest to given.
    ///
    /// Where given - null is perpendicular to null that number is 1, and this is classifier-free
    /// guidance.
    ///
    /// # Reference
    /// Fan et al. 2025, algorithm 1, arXiv:2503.18886.
    CfgZeroStar {
        /// In how many of the first steps of sampling the velocity is taken for 0, where guidance
        /// acts (the paper has 1 or more, for networks that say little at pure noise). A restart does not count again; an
        /// inversion, which begins with data, takes none for 0.
        #[serde(default)]
        zero_init: usize,
        /// Where it acts.
        #[serde(default)]
        within: NoiseRange,
    },
    /// given + (scale - 1) d, on x0-hat, where d is given - null with its part along given
    /// weakened, its length bounded, and some of the d before it added.
    ///
    /// Classifier-free guidance at `eta` = 1 without the other two.
    ///
    /// # Reference
    /// Sadat et al. 2024, algorithm 1, arXiv:2410.02416.
    Apg {
        /// How much of the part along given is kept: 0, the paper's, for none to 1 for all.
        #[serde(default)]
        eta: f64,
        /// The most that d may be long, as the root of the sum of the squares of a whole sample;
        /// 0 for any length. It grows with the size of a sample: the paper has 2.5 to 15 on
        /// latents.
        #[serde(default)]
        norm_threshold: f64,
        /// How much of the sum at the noise level before is added to given - null; 0 for none, the
        /// paper has -0.75 to -0.5. The sum begins anew with a run, and wherever noise rises, by a
        /// restart or churn.
        #[serde(default)]
        momentum: f64,
        /// Where it acts.
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

    /// Where it acts.
    pub fn within(&self) -> NoiseRange {
        match self {
            GuidanceConfig::ClassifierFree { within, .. }
            | GuidanceConfig::CfgZeroStar { within, .. }
            | GuidanceConfig::Apg { within, .. } => *within,
        }
    }

    /// The same rule, at other noise levels.
    pub fn limited(self, to: NoiseRange) -> GuidanceConfig {
        let mut rule = self;
        match &mut rule {
            GuidanceConfig::ClassifierFree { within, .. }
            | GuidanceConfig::CfgZeroStar { within, .. }
            | GuidanceConfig::Apg { within, .. } => *within = to,
        }
        rule
    }

    /// Refuses settings out of their range.
    ///
    /// # Errors
    /// The setting, what it may be and what it is.
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
