//! Losses grouped by noise level.

use crate::{Error, Result};

/// The loss of the levels between two log-SNRs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// Lower edge of the bin, a log-SNR.
    pub from: f64,
    /// Upper edge of the bin, a log-SNR, not included.
    pub to: f64,
    /// Number of levels in the bin (samples, or frames if each has its own level).
    pub count: usize,
    /// The mean over all values that count; NaN in an empty bin.
    pub mean: f64,
}

impl Bin {
    /// Sorts the means of many levels into bins: [`Loss::by_log_snr`](crate::Loss::by_log_snr) for
    /// values on the host, possibly of several batches.
    ///
    /// # Range
    /// `counts`: how many values are in each of `means`; levels with 0 are omitted. `edges` as
    /// there.
    ///
    /// # Errors
    /// Fewer than two edges, or edges that do not rise; lists of unequal length.
    pub fn of(log_snr: &[f64], means: &[f64], counts: &[f64], edges: &[f64]) -> Result<Vec<Bin>> {
        if edges.len() < 2 || !edges.windows(2).all(|pair| pair[0] < pair[1]) {
            let expected = "at least two log-SNRs, each above the one before";
            return Err(Error::value("edges of bins", expected, format!("{edges:?}")));
        }
        if means.len() != log_snr.len() || counts.len() != log_snr.len() {
            let expected = format!("as many means and counts as levels, {}", log_snr.len());
            let got = format!("{} and {}", means.len(), counts.len());
            return Err(Error::value("losses of levels", expected, got));
        }
        let mut sums = vec![(0usize, 0.0, 0.0); edges.len() - 1];
        for ((log_snr, mean), count) in log_snr.iter().zip(means).zip(counts) {
            // Number of edges at or below the level.
            let above = edges.partition_point(|edge| edge <= log_snr);
            let bin = above.checked_sub(1).and_then(|bin| sums.get_mut(bin));
            if let (Some(bin), true) = (bin, *count > 0.0) {
                *bin = (bin.0 + 1, bin.1 + mean * count, bin.2 + count);
            }
        }
        let bins = sums.iter().zip(edges.windows(2));
        Ok(bins
            .map(|((count, sum, of), pair)| Bin {
                from: pair[0],
                to: pair[1],
                count: *count,
                mean: sum / of,
            })
            .collect())
    }
}
