//! Schedules by name.

use std::ops::Not;

use serde::{Deserialize, Serialize};

use super::{BetaTable, Schedule, TimeInput};
use crate::named::name_or_table;
use crate::{Result, schedule};

/// Choice of schedule in a config.
///
/// For tables, `zero_terminal_snr` removes the signal from the last entry, as
/// [`BetaTable::zero_terminal_snr`] does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// [`CosineDiscrete`](crate::CosineDiscrete): the table of `video-diffusion-pytorch`.
    CosineDiscrete {
        /// Number of entries.
        #[serde(default = "steps")]
        steps: usize,
        /// Whether the last entry has no signal.
        #[serde(default, skip_serializing_if = "Not::not")]
        zero_terminal_snr: bool,
    },
    /// [`Cosine`](crate::Cosine): continuous in time, as in the paper.
    Cosine {
        /// log-SNR at t = 1.
        #[serde(default = "log_snr_min")]
        log_snr_min: f64,
        /// log-SNR at t = 0.
        #[serde(default = "log_snr_max")]
        log_snr_max: f64,
        /// The network's time input.
        #[serde(default)]
        time_input: TimeInput,
    },
    /// [`BetaTable::linear`].
    Linear {
        /// Number of entries.
        #[serde(default = "steps")]
        steps: usize,
        /// The beta of the first entry.
        #[serde(default = "beta_first")]
        beta_first: f64,
        /// The beta of the last entry.
        #[serde(default = "beta_last")]
        beta_last: f64,
        /// Whether the last entry has no signal.
        #[serde(default, skip_serializing_if = "Not::not")]
        zero_terminal_snr: bool,
    },
    /// [`BetaTable::scaled_linear`]: linear in the square root of beta.
    ScaledLinear {
        /// Number of entries.
        #[serde(default = "steps")]
        steps: usize,
        /// The beta of the first entry.
        #[serde(default = "scaled_beta_first")]
        beta_first: f64,
        /// The beta of the last entry.
        #[serde(default = "scaled_beta_last")]
        beta_last: f64,
        /// Whether the last entry has no signal.
        #[serde(default, skip_serializing_if = "Not::not")]
        zero_terminal_snr: bool,
    },
    /// [`BetaTable::sigmoid`]: betas along a sigmoid.
    Sigmoid {
        /// Number of entries.
        #[serde(default = "steps")]
        steps: usize,
        /// Lower end of the sigmoid, close to the first beta.
        #[serde(default = "beta_first")]
        beta_first: f64,
        /// Upper end of the sigmoid, close to the last beta.
        #[serde(default = "beta_last")]
        beta_last: f64,
        /// Whether the last entry has no signal.
        #[serde(default, skip_serializing_if = "Not::not")]
        zero_terminal_snr: bool,
    },
    /// [`BetaTable`]: the betas of a converted checkpoint.
    Betas {
        /// One beta per entry.
        values: Vec<f64>,
        /// Whether the last entry has no signal.
        #[serde(default, skip_serializing_if = "Not::not")]
        zero_terminal_snr: bool,
    },
    /// [`Edm`](crate::Edm): variance-exploding.
    Edm {
        /// Noise at t = 1 / 1000.
        #[serde(default = "sigma_min")]
        sigma_min: f64,
        /// Noise at t = 1.
        #[serde(default = "sigma_max")]
        sigma_max: f64,
    },
    /// [`Flow`](crate::Flow): linear flow matching.
    Flow {
        /// Time shift for resolution; 1 is none.
        #[serde(default = "no_shift")]
        shift: f64,
    },
    /// [`Shifted`](crate::Shifted): another schedule, shifted in log-SNR.
    Shifted {
        /// The other schedule.
        of: Box<ScheduleConfig>,
        /// Constant added to its log-SNR.
        log_snr_shift: f64,
    },
}

name_or_table!(
    ScheduleConfig,
    "schedule",
    [],
    [
        CosineDiscrete => "cosine-discrete",
        Cosine => "cosine",
        Linear => "linear",
        ScaledLinear => "scaled-linear",
        Sigmoid => "sigmoid",
        Betas => "betas",
        Edm => "edm",
        Flow => "flow",
        Shifted => "shifted",
    ],
);

fn steps() -> usize {
    1000
}

fn log_snr_min() -> f64 {
    -20.0
}

fn log_snr_max() -> f64 {
    20.0
}

fn beta_first() -> f64 {
    1e-4
}

fn beta_last() -> f64 {
    0.02
}

fn scaled_beta_first() -> f64 {
    0.00085
}

fn scaled_beta_last() -> f64 {
    0.012
}

fn sigma_min() -> f64 {
    0.002
}

fn sigma_max() -> f64 {
    80.0
}

fn no_shift() -> f64 {
    1.0
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        ScheduleConfig::cosine_discrete(steps())
    }
}

impl ScheduleConfig {
    /// The cosine table with this many entries.
    pub fn cosine_discrete(steps: usize) -> Self {
        ScheduleConfig::CosineDiscrete { steps, zero_terminal_snr: false }
    }

    /// The table of these betas.
    pub fn betas(values: Vec<f64>) -> Self {
        ScheduleConfig::Betas { values, zero_terminal_snr: false }
    }

    /// The paper's continuous cosine: log-SNR from -20 to 20.
    pub fn cosine() -> Self {
        ScheduleConfig::Cosine {
            log_snr_min: log_snr_min(),
            log_snr_max: log_snr_max(),
            time_input: TimeInput::default(),
        }
    }

    /// The linear table of DDPM: 1000 betas from 1e-4 to 0.02.
    pub fn linear() -> Self {
        let (steps, beta_first, beta_last) = (steps(), beta_first(), beta_last());
        ScheduleConfig::Linear { steps, beta_first, beta_last, zero_terminal_snr: false }
    }

    /// The table of Stable Diffusion: 1000 betas whose square roots are evenly spaced, from 0.00085
    /// to 0.012.
    pub fn scaled_linear() -> Self {
        let (steps, beta_first, beta_last) = (steps(), scaled_beta_first(), scaled_beta_last());
        ScheduleConfig::ScaledLinear { steps, beta_first, beta_last, zero_terminal_snr: false }
    }

    /// 1000 betas along a sigmoid from 1e-4 to 0.02.
    pub fn sigmoid() -> Self {
        let (steps, beta_first, beta_last) = (steps(), beta_first(), beta_last());
        ScheduleConfig::Sigmoid { steps, beta_first, beta_last, zero_terminal_snr: false }
    }

    /// Variance-exploding, sigma from 0.002 to 80.
    pub fn edm() -> Self {
        ScheduleConfig::Edm { sigma_min: sigma_min(), sigma_max: sigma_max() }
    }

    /// Linear flow matching without a shift.
    pub fn flow() -> Self {
        ScheduleConfig::Flow { shift: no_shift() }
    }

    /// This schedule with a constant added to its log-SNR.
    pub fn shifted(self, log_snr_shift: f64) -> Self {
        ScheduleConfig::Shifted { of: Box::new(self), log_snr_shift }
    }

    /// Every schedule that has default settings, with these.
    pub fn all() -> Vec<Self> {
        vec![
            ScheduleConfig::cosine_discrete(steps()),
            ScheduleConfig::cosine(),
            ScheduleConfig::linear(),
            ScheduleConfig::scaled_linear(),
            ScheduleConfig::sigmoid(),
            ScheduleConfig::edm(),
            ScheduleConfig::flow(),
        ]
    }

    /// Whether the network's time input is the log-SNR (for a shifted schedule, the log-SNR before
    /// the shift).
    pub fn tells_log_snr(&self) -> bool {
        match self {
            ScheduleConfig::Cosine { time_input, .. } => *time_input == TimeInput::LogSnr,
            ScheduleConfig::Shifted { of, .. } => of.tells_log_snr(),
            _ => false,
        }
    }

    /// Builds the schedule.
    ///
    /// # Errors
    /// Settings out of range.
    pub fn build(&self) -> Result<Box<dyn Schedule>> {
        use ScheduleConfig::*;
        Ok(match self {
            CosineDiscrete { steps, zero_terminal_snr } => {
                let cosine = schedule::CosineDiscrete::new(*steps)?;
                table(BetaTable::new(cosine.betas())?, *zero_terminal_snr)?
            }
            Linear { steps, beta_first, beta_last, zero_terminal_snr } => {
                table(BetaTable::linear(*steps, *beta_first, *beta_last)?, *zero_terminal_snr)?
            }
            ScaledLinear { steps, beta_first, beta_last, zero_terminal_snr } => {
                let scaled = BetaTable::scaled_linear(*steps, *beta_first, *beta_last)?;
                table(scaled, *zero_terminal_snr)?
            }
            Sigmoid { steps, beta_first, beta_last, zero_terminal_snr } => {
                table(BetaTable::sigmoid(*steps, *beta_first, *beta_last)?, *zero_terminal_snr)?
            }
            Betas { values, zero_terminal_snr } => {
                table(BetaTable::new(values)?, *zero_terminal_snr)?
            }
            Cosine { log_snr_min, log_snr_max, time_input } => {
                Box::new(schedule::Cosine::new(*log_snr_min, *log_snr_max, *time_input)?)
            }
            Edm { sigma_min, sigma_max } => Box::new(schedule::Edm::new(*sigma_min, *sigma_max)?),
            Flow { shift } => Box::new(schedule::Flow::new(*shift)?),
            Shifted { of, log_snr_shift } => {
                Box::new(schedule::Shifted::new(of.build()?, *log_snr_shift)?)
            }
        })
    }
}

fn table(table: BetaTable, zero_terminal_snr: bool) -> Result<Box<dyn Schedule>> {
    Ok(Box::new(if zero_terminal_snr { table.zero_terminal_snr()? } else { table }))
}
