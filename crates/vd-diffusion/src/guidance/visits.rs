//! Which noise level of a run a denoiser is at.

use std::cell::Cell;

use crate::{Levels, NoiseLevel};

/// Counts the distinct noise levels that a denoiser was asked at.
///
/// The count begins anew at a state with more noise than the one before it: the first of a run, or
/// one that a restart raised. Only the states that `constrain` is shown are compared: churn, which
/// a sampler adds within its step, does not begin the count anew.
#[derive(Debug, Default)]
pub(super) struct Visits(Cell<Count>);

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    /// log-SNR of the state that `constrain` saw last.
    state: Option<f64>,
    /// log-SNR of the state that the count began with, and of the noisiest state ever.
    began: Option<f64>,
    noisiest: Option<f64>,
    /// log-SNR that was asked for last, and how many differed from the one before them.
    asked: Option<f64>,
    levels: usize,
}

impl Visits {
    /// A new state.
    pub(super) fn state(&self, at: NoiseLevel) {
        let log_snr = at.log_snr();
        let count = self.0.get();
        let noisiest = Some(count.noisiest.map_or(log_snr, |most| most.min(log_snr)));
        let state = Some(log_snr);
        self.0.set(match count.state {
            Some(before) if log_snr >= before => Count { state, noisiest, ..count },
            _ => Count { state, noisiest, began: state, ..Count::default() },
        });
    }

    /// Whether the count began with as much noise as there ever was: with a run, not a restart.
    pub(super) fn is_from_noise(&self) -> bool {
        let count = self.0.get();
        count.began == count.noisiest
    }

    /// The number of the level that is asked for now, from 0.
    pub(super) fn number(&self, at: &Levels) -> usize {
        let log_snr = at.noisiest().map(NoiseLevel::log_snr);
        let mut count = self.0.get();
        if count.levels == 0 || count.asked != log_snr {
            count = Count { asked: log_snr, levels: count.levels + 1, ..count };
            self.0.set(count);
        }
        count.levels - 1
    }
}
