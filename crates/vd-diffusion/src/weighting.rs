//! How much an error counts at each noise level.

use serde::{Deserialize, Serialize};

use crate::named::name_or_table;
use crate::parameterization::{above_zero, default_sigma_data};
use crate::{Error, NoiseLevel, Parameterization, Result};

/// How much an error counts at each noise level.
///
/// All variants except [`Uniform`](Weighting::Uniform) are weights of the squared error of x0-hat,
/// whatever the network predicts: [`of_output`](Weighting::of_output) converts them with the square
/// of [`Parameterization::x0_per_output`]. So a weighting has the same effect under every
/// parameterisation. The squared error of eps-hat is that of x0-hat times the SNR, alpha^2 /
/// sigma^2. With a loss that is not a square, the same weight multiplies the distance.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Weighting {
    /// 1 on the network's output, whatever it predicts: the loss of Ho et al. 2020, equation 14,
    /// arXiv:2006.11239, if that is eps.
    #[default]
    Uniform,
    /// SNR on x0, which is 1 on eps (Salimans & Ho 2022, equation 9, arXiv:2202.00512).
    Snr,
    /// max(SNR, 1) on x0: the larger of the errors of x0 and eps (Salimans & Ho 2022, equation 10).
    TruncatedSnr,
    /// min(SNR, gamma) on x0; min(SNR, gamma) / SNR on eps; min(SNR, gamma) / (SNR + 1) on the v of
    /// a variance-preserving schedule (Hang et al. 2023, section 3.4, arXiv:2303.09556).
    MinSnr {
        /// The SNR at which the weight stops growing.
        #[serde(default = "default_gamma")]
        gamma: f64,
    },
    /// 1 / (k + SNR)^gamma on eps (Choi et al. 2022, equation 8, arXiv:2204.00227).
    P2 {
        /// Bounds the weight of noisy levels.
        #[serde(default = "one")]
        k: f64,
        /// How steeply the weight of clean levels falls; 0 is [`Snr`](Weighting::Snr).
        #[serde(default = "one")]
        gamma: f64,
    },
    /// ((sigma / alpha)^2 + sigma_data^2) / (sigma_data sigma / alpha)^2 on x0: 1 on the output of
    /// [`Parameterization::Edm`] (Karras et al. 2022, table 1, arXiv:2206.00364).
    Edm {
        /// The standard deviation of the data.
        #[serde(default = "default_sigma_data")]
        sigma_data: f64,
    },
    /// sigmoid(bias - log-SNR) on eps (Kingma & Gao 2023, arXiv:2303.00848; Hoogeboom et al. 2024,
    /// arXiv:2410.19324).
    ///
    /// Only the weight: the papers also divide by the density with which log-SNRs are sampled,
    /// which would cancel the choice of schedule and [`TimeSampling`](crate::TimeSampling).
    Sigmoid {
        /// The log-SNR at which the weight is one half: lower for more pixels.
        #[serde(default = "default_bias")]
        bias: f64,
    },
}

name_or_table!(
    Weighting,
    "weighting",
    [Uniform => "uniform", Snr => "snr", TruncatedSnr => "truncated-snr"],
    [MinSnr => "min-snr", P2 => "p2", Edm => "edm", Sigmoid => "sigmoid"],
);

fn default_gamma() -> f64 {
    5.0
}

fn one() -> f64 {
    1.0
}

fn default_bias() -> f64 {
    2.0
}

impl Weighting {
    /// Refuses settings out of range.
    pub(crate) fn validate(self) -> Result<()> {
        match self {
            Weighting::MinSnr { gamma } => above_zero("weighting min-snr: gamma", gamma),
            Weighting::P2 { k, gamma } => {
                above_zero("weighting p2: k", k)?;
                if gamma >= 0.0 && gamma.is_finite() {
                    return Ok(());
                }
                Err(Error::value("weighting p2: gamma", "a finite number of at least 0", gamma))
            }
            Weighting::Edm { sigma_data } => above_zero("weighting edm: sigma_data", sigma_data),
            Weighting::Sigmoid { bias } if !bias.is_finite() => {
                Err(Error::value("weighting sigmoid: bias", "a finite number", bias))
            }
            _ => Ok(()),
        }
    }

    /// The weight of the squared error of x0-hat.
    ///
    /// # Range
    /// Needs sigma > 0, and alpha > 0 where the weight is uniform on eps.
    pub fn of_x0(self, parameterization: Parameterization, at: NoiseLevel) -> f64 {
        let snr = at.snr();
        match self {
            Weighting::Uniform => parameterization.x0_per_output(at).powi(-2),
            Weighting::Snr => snr,
            Weighting::TruncatedSnr => snr.max(1.0),
            Weighting::MinSnr { gamma } => snr.min(gamma),
            Weighting::P2 { k, gamma } => snr / (k + snr).powf(gamma),
            // Multiplied out by alpha^2, so that alpha = 0 needs no special case.
            Weighting::Edm { sigma_data } => (at.alpha / at.sigma).powi(2) + sigma_data.powi(-2),
            // exp(l) sigmoid(b - l), without overflow.
            Weighting::Sigmoid { bias } => 1.0 / (snr.recip() + (-bias).exp()),
        }
    }

    /// The weight of the squared error of the network's output.
    ///
    /// # Range
    /// Needs sigma > 0, and alpha > 0 for epsilon.
    pub fn of_output(self, parameterization: Parameterization, at: NoiseLevel) -> f64 {
        match self {
            Weighting::Uniform => 1.0,
            _ => self.of_x0(parameterization, at) * parameterization.x0_per_output(at).powi(2),
        }
    }
}
