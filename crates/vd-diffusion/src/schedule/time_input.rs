//! The network's time input.

use serde::{Deserialize, Serialize};

/// The time input that a continuous schedule gives to the network.
///
/// Networks here embed this number in sines and cosines with frequencies from 1 down to 1e-4
/// radians per unit, designed for step numbers from 0 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeInput {
    /// 1000 t: the range the embedding is designed for, and the one used by networks trained on
    /// 1000 discrete steps.
    #[default]
    T1000,
    /// The log-SNR, as in Ho et al. 2022, arXiv:2204.03458, for networks that embed it
    /// ([`TimeEmbedding::LogSnr`](vd_unet3d::TimeEmbedding::LogSnr)). With an embedding of step
    /// numbers, only the high frequencies distinguish levels (40 units are 6 periods of the
    /// highest).
    LogSnr,
}
