//! What a network is told about the time.

use serde::{Deserialize, Serialize};

/// What a network is told about the time by a continuous schedule.
///
/// Networks here embed the number in sines and cosines of 1 down to 1e-4 radians per unit, which
/// was made for step numbers of 0 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeInput {
    /// 1000 t: the range that the embedding was made for, and what a network trained on 1000
    /// discrete steps is used to.
    #[default]
    T1000,
    /// The log-SNR, as in Ho et al. 2022, arXiv:2204.03458, for networks that embed it
    /// ([`TimeEmbedding::LogSnr`](vd_unet3d::TimeEmbedding::LogSnr)). In the range of steps only the
    /// upper frequencies tell levels apart (40 units are 6 periods of the highest).
    LogSnr,
}
