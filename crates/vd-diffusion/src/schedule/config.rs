//! Schedules by name.

use serde::{Deserialize, Serialize};

use super::{BetaTable, Cosine, CosineDiscrete, Schedule, TimeInput};
use crate::Result;
use crate::named::name_or_table;

/// Which schedule, as a config says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// [`CosineDiscrete`]: the table of `video-diffusion-pytorch`.
    CosineDiscrete {
        /// Number of entries.
        #[serde(default = "default_steps")]
        steps: usize,
    },
    /// [`Cosine`]: continuous in time, as in the paper.
    Cosine {
        /// log-SNR at t = 1.
        #[serde(default = "default_log_snr_min")]
        log_snr_min: f64,
        /// log-SNR at t = 0.
        #[serde(default = "default_log_snr_max")]
        log_snr_max: f64,
        /// What the network is told about the time.
        #[serde(default)]
        time_input: TimeInput,
    },
    /// [`BetaTable`]: the betas of a converted checkpoint.
    Betas {
        /// One beta per entry.
        values: Vec<f64>,
    },
}

name_or_table!(ScheduleConfig, "the name of a schedule, or a table with its `kind`");

fn default_steps() -> usize {
    1000
}

fn default_log_snr_min() -> f64 {
    -20.0
}

fn default_log_snr_max() -> f64 {
    20.0
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        ScheduleConfig::CosineDiscrete { steps: default_steps() }
    }
}

impl ScheduleConfig {
    /// The paper's continuous cosine: log-SNR from -20 to 20.
    pub fn cosine() -> Self {
        ScheduleConfig::Cosine {
            log_snr_min: default_log_snr_min(),
            log_snr_max: default_log_snr_max(),
            time_input: TimeInput::default(),
        }
    }

    /// The schedule itself.
    ///
    /// # Errors
    /// Settings out of their range.
    pub fn build(&self) -> Result<Box<dyn Schedule>> {
        Ok(match self {
            ScheduleConfig::CosineDiscrete { steps } => Box::new(CosineDiscrete::new(*steps)?),
            ScheduleConfig::Cosine { log_snr_min, log_snr_max, time_input } => {
                Box::new(Cosine::new(*log_snr_min, *log_snr_max, *time_input)?)
            }
            ScheduleConfig::Betas { values } => Box::new(BetaTable::new(values)?),
        })
    }
}
